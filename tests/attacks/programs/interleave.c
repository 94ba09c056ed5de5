/* Writes to stdout and stderr in turn, with pauses long enough for an order of arrival. */
#include "attack.h"

int main(int argc, char **argv) {
    int turns = argc > 1 ? atoi(argv[1]) : 5;
    for (int i = 0; i < turns; i++) {
        dprintf(1, "o%d;", i);
        usleep(20000);
        dprintf(2, "e%d;", i);
        usleep(20000);
    }
    return 0;
}
