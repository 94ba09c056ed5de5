/* M7: pipes of 1 MiB and socket pairs, all filled, as many as the kernel gives. */
#include "attack.h"
#include <sys/socket.h>

int main(void) {
    static char block[65536];
    long pairs = 0;
    for (; pairs < 100000; pairs++) {
        int ends[2];
        if ((pairs % 2 ? pipe2(ends, O_NONBLOCK)
                       : socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) < 0) {
            say("pair", strerrorname_np(errno));
            break;
        }
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        while (write(ends[1], block, sizeof block) > 0) {
        }
    }
    say_number("pairs", pairs);
    return 0;
}
