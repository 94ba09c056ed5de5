/* P22: computes until so many microseconds of its own clock are over, then exits normally. */
#include "attack.h"

int main(int argc, char **argv) {
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    uint64_t length = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1000) * 1000u;
    while (clock_ns(CLOCK_MONOTONIC) - start < length) {
    }
    return 0;
}
