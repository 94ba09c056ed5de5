/* P12, P13: N children burn so many milliseconds each, one after the other; says what the kernel
 * counted for them. */
#include "attack.h"
#include <sys/resource.h>

int main(int argc, char **argv) {
    int children = argc > 1 ? atoi(argv[1]) : 1;
    uint64_t each_ns = (argc > 2 ? (uint64_t)atoi(argv[2]) : 100) * 1000000u;
    for (int i = 0; i < children; i++) {
        pid_t child = fork();
        if (child == 0) {
            burn_ns(each_ns);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    struct rusage use, own;
    getrusage(RUSAGE_CHILDREN, &use);
    getrusage(RUSAGE_SELF, &own);
    say_number("cpu_us", (use.ru_utime.tv_sec + use.ru_stime.tv_sec + own.ru_utime.tv_sec +
                          own.ru_stime.tv_sec) *
                                 1000000LL +
                             use.ru_utime.tv_usec + use.ru_stime.tv_usec + own.ru_utime.tv_usec +
                             own.ru_stime.tv_usec);
    return 0;
}
