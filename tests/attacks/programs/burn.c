/* Burns so many milliseconds of CPU (half of it in the kernel with `system`) and says what
 * getrusage counted. */
#include "attack.h"
#include <sys/resource.h>

int main(int argc, char **argv) {
    uint64_t want = (argc > 1 ? strtoull(argv[1], NULL, 10) : 10) * 1000000u;
    if (argc > 2) {
        uint64_t end = clock_ns(CLOCK_PROCESS_CPUTIME_ID) + want;
        int fd = open("/dev/zero", O_RDONLY);
        static char block[65536];
        while (clock_ns(CLOCK_PROCESS_CPUTIME_ID) < end) {
            (void)!read(fd, block, sizeof block);
        }
    } else {
        burn_ns(want);
    }
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    say_number("cpu_us", (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000LL +
                             use.ru_utime.tv_usec + use.ru_stime.tv_usec);
    return 0;
}
