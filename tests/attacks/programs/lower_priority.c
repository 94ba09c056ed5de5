/* P15: asks for less processor than others get. A thread that its own siblings starve goes on
 * holding what it has locked in the kernel, and whoever needs that lock waits with it. */
#include "attack.h"
#include <sched.h>
#include <sys/resource.h>

enum { SCHED_EXT_CLASS = 7, IOPRIO_IDLE = 3 << 13, IOPRIO_LOWEST = (2 << 13) | 7 };

static long choose(int policy) { return sched_setscheduler(0, policy, &(struct sched_param){0}); }

/* As in <linux/sched/types.h>, which C libraries cannot be used with. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static long set_attributes(struct attributes attributes) {
    attributes.size = sizeof attributes;
    return syscall(SYS_sched_setattr, 0, &attributes, 0);
}

static long write_autogroup(void) {
    int fd = open("/proc/self/autogroup", O_WRONLY);
    return fd < 0 ? -1 : write(fd, "19", 2);
}

static void try_lower(void) {
    TRY("idle", choose(SCHED_IDLE));
    TRY("idle_reset", choose(SCHED_IDLE | SCHED_RESET_ON_FORK));
    /* Without a scheduler of the administrator's it is the usual class, with one it may be below.
     */
    TRY("ext", choose(SCHED_EXT_CLASS));
    TRY("attr_idle", set_attributes((struct attributes){.policy = SCHED_IDLE}));
    TRY("attr_nice", set_attributes((struct attributes){.nice = 19}));
    TRY("attr_slice", set_attributes((struct attributes){.runtime = 100000}));
    TRY("nice_process", setpriority(PRIO_PROCESS, 0, 19));
    TRY("nice_group", setpriority(PRIO_PGRP, 0, 19));
    TRY("nice_user", setpriority(PRIO_USER, 0, 19));
    TRY("ioprio_idle", syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE));
    TRY("ioprio_lowest", syscall(SYS_ioprio_set, 1, 0, IOPRIO_LOWEST));
    TRY("autogroup", write_autogroup());
}

static void try_usual(void) {
    TRY("batch", choose(SCHED_BATCH));
    TRY("batch_reset", choose(SCHED_BATCH | SCHED_RESET_ON_FORK));
    TRY("other_reset", choose(SCHED_OTHER | SCHED_RESET_ON_FORK));
    TRY("param", sched_setparam(0, &(struct sched_param){0}));
}

int main(void) {
    try_usual();
    try_lower();
    say_number("nice", getpriority(PRIO_PROCESS, 0));
    say_number("policy", sched_getscheduler(0) & ~SCHED_RESET_ON_FORK);
    return 0;
}
