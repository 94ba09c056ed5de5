/*
 * Keeps a process, and all that comes of it, on one processor.
 *
 * Theory of operation. Affinity is inherited; what is left is to take the right to choose another
 * one, by a filter on top of init's, as in locks.c. A cpuset would do the same, but the kernel
 * takes locks of the whole machine to change one.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "internal.h"

static const struct sock_filter no_choice[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

int keep_to_cpu(unsigned number) {
    const struct sock_fprog program = {.len = sizeof no_choice / sizeof *no_choice,
                                       .filter = (struct sock_filter *)no_choice};
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(number, &only);
    if (sched_setaffinity(0, sizeof only, &only) < 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
