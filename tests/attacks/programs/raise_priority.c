/* P15: asks for more processor than others get. */
#include "attack.h"
#include <sched.h>
#include <sys/resource.h>

int main(void) {
    struct sched_param fifo = {.sched_priority = 50};
    TRY("fifo", sched_setscheduler(0, SCHED_FIFO, &fifo));
    TRY("rr", sched_setscheduler(0, SCHED_RR, &fifo));
    TRY("nice", setpriority(PRIO_PROCESS, 0, -20));
    TRY("ioprio_rt", syscall(SYS_ioprio_set, 1, 0, (1 << 13) | 0));
    return 0;
}
