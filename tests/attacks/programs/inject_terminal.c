/* O14: pushes characters into the terminal it was given, or takes over another one; also with bits
 * set in the upper half of the request, which a 64-bit comparison would not match. */
#include "attack.h"
#include <sys/ioctl.h>
#include <termios.h>

#ifndef TIOCLINUX
#define TIOCLINUX 0x541C
#endif

static long raw_ioctl(unsigned long request, void *argument) {
    return syscall(SYS_ioctl, 0, request, argument);
}

int main(void) {
    char character = 'X', paste[2] = {3, 0};
    unsigned long high = 0x100000000ul;
    TRY("tiocsti", raw_ioctl(TIOCSTI, &character));
    TRY("tiocsti_high", raw_ioctl(TIOCSTI | high, &character));
    TRY("tioclinux", raw_ioctl(TIOCLINUX, paste));
    TRY("tioclinux_high", raw_ioctl(TIOCLINUX | high, paste));
    TRY("tiocsctty", raw_ioctl(TIOCSCTTY, (void *)1));
    TRY("tioccons", raw_ioctl(TIOCCONS, NULL));
    TRY("tty", open("/dev/tty", O_RDWR));
    TRY("tty0", open("/dev/tty0", O_RDWR));
    TRY("console", open("/dev/console", O_RDWR));
    TRY("pts0", open("/dev/pts/0", O_RDWR));
    TRY("ptmx", open("/dev/ptmx", O_RDWR));
    return 0;
}
