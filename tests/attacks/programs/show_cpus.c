/* P16: says which processors it may use, and stays until its stdin is at its end. */
#include "attack.h"
#include <sched.h>

int main(void) {
    cpu_set_t given;
    char byte;
    TRY("given", sched_getaffinity(0, sizeof given, &given));
    say_number("count", CPU_COUNT(&given));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &given)) {
            say_number("cpu", cpu);
        }
    }
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    return 0;
}
