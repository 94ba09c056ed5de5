/* D11, D12: as many descriptors as the kernel gives, of one kind. */
#include "attack.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "file";
    for (long count = 0; count < 1000000; count++) {
        int fd = strcmp(kind, "epoll") == 0   ? epoll_create1(0)
                 : strcmp(kind, "event") == 0 ? eventfd(0, 0)
                 : strcmp(kind, "timer") == 0 ? timerfd_create(CLOCK_MONOTONIC, 0)
                                              : open("/dev/null", O_RDONLY);
        if (fd < 0) {
            say(kind, strerrorname_np(errno));
            say_number("count", count);
            return 0;
        }
    }
    return 1;
}
