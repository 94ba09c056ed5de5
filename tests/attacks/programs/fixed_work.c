/* The innocent job beside an attack that wants all of the processor: a fixed amount of work, so
 * that what it takes shows what the attack took away. Says its own time and what it found. */
#include "attack.h"

int main(int argc, char **argv) {
    uint64_t rounds = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1) * 1000000u, state = 1, sum = 0;
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < rounds; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sum += state;
    }
    say_number("sum", (long long)(sum >> 1));
    say_number("wall_us", (long long)((clock_ns(CLOCK_MONOTONIC) - start) / 1000));
    return 0;
}
