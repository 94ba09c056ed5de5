/*
 * No locks on files, for a job that asks for that: a lock on a file that all jobs see is seen by
 * all that run at the same time, and so carries bits from one to the other.
 *
 * Theory of operation. The filter that init has put on every process of the slot allows to add
 * another, which only its process and what comes of it has; the kernel obeys the stricter of the
 * two. So the prepared process of such a job adds this one, and no other job pays for it. Other
 * architectures and x32 have been refused by the first.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "internal.h"

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define SKIP_IF(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, count, 0)
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)

/* Leases are the owner's, and nobody in a sandbox owns a file that others see. */
static const struct sock_filter no_locks[] = {
    LOAD(nr),
    SKIP_IF(SYS_flock, 8),
    SKIP_UNLESS(SYS_fcntl, 8),
    LOAD(args[1]), /* the low half, which is all that the kernel takes of it */
    SKIP_IF(F_GETLK, 5),
    SKIP_IF(F_SETLK, 4),
    SKIP_IF(F_SETLKW, 3),
    SKIP_IF(F_OFD_GETLK, 2),
    SKIP_IF(F_OFD_SETLK, 1),
    SKIP_UNLESS(F_OFD_SETLKW, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOLCK),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

int forbid_locks(void) {
    const struct sock_fprog program = {.len = sizeof no_locks / sizeof *no_locks,
                                       .filter = (struct sock_filter *)no_locks};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
