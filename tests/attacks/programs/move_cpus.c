/* P16: moves itself to every CPU it was not given, and everybody else to one. */
#include "attack.h"
#include <sched.h>

static cpu_set_t single(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return set;
}

int main(void) {
    cpu_set_t given, set;
    TRY("given", sched_getaffinity(0, sizeof given, &given));
    say_number("count", CPU_COUNT(&given));
    long moved = 0;
    int own = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        set = single(cpu);
        if (CPU_ISSET(cpu, &given)) {
            own = cpu;
        } else if (sched_setaffinity(0, sizeof set, &set) == 0) {
            moved++;
        }
    }
    say_number("moved", moved);
    CPU_ZERO(&set);
    TRY("nowhere", sched_setaffinity(0, sizeof set, &set));
    set = single(own);
    TRY("init", sched_setaffinity(1, sizeof set, &set));
    TRY("own", sched_setaffinity(0, sizeof set, &set));
    return 0;
}
