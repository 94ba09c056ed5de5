/* O9, O10: never reads stdin; waits so many milliseconds, then exits 0. */
#include "attack.h"

int main(int argc, char **argv) {
    usleep((argc > 1 ? (useconds_t)atoi(argv[1]) : 0) * 1000);
    say("left", "ok");
    return 0;
}
