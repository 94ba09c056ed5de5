/* D1: writes so many bytes to one file; `default` leaves SIGXFSZ as it is. */
#include "attack.h"

int main(int argc, char **argv) {
    long long wanted = argc > 1 ? atoll(argv[1]) : 208 << 20, written = 0;
    static char block[1 << 16];
    if (argc < 3) {
        signal(SIGXFSZ, SIG_IGN);
    }
    int fd = open("big", O_WRONLY | O_CREAT, 0644);
    while (written < wanted) {
        ssize_t done = write(fd, block, sizeof block);
        if (done < 0) {
            say("write", strerrorname_np(errno));
            break;
        }
        written += done;
    }
    say_number("written", written);
    return 0;
}
