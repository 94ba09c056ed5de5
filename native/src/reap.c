/* Waiting for a job's end, and for the end of everything it started. */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/wait.h>

#include "internal.h"

uint64_t reap_main(pid_t main_pid, struct slot_msg *ret) {
    siginfo_t info;
    struct rusage used;
    do {
        info.si_pid = 0;
        /* The library's waitid has no rusage. */
        (void)syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | __WALL, &used);
    } while (info.si_pid != main_pid);
    ret->end_ns = clock_ns(CLOCK_MONOTONIC);
    if (info.si_code == CLD_EXITED)
        ret->exit_code = info.si_status;
    else
        ret->signal = info.si_status;
    return (uint64_t)used.ru_maxrss * 1024;
}

void reap_rest(void) {
    if (waitpid(-1, NULL, __WALL | WNOHANG) < 0)
        return; /* ECHILD: the usual case, nothing was left */
    /* Under the task list lock: a process that forks sees the signal before its child exists. */
    (void)kill(-1, SIGKILL);
    while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
        ;
}
