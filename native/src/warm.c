/*
 * The waiting interpreter of a warm slot, as init sees it.
 *
 * Theory of operation. To start Python takes ten times as long as most programs in it run. So in
 * some slots an interpreter is started ahead, which never sees a line of a client's: it runs
 * warm/module.c, which forks a copy of it for each job. The copy is the slot's prepared process: it
 * gives up every privilege, waits for the job as always (job.c), and then, instead of an exec,
 * returns into the interpreter it is a copy of, and runs the program there.
 *
 * The interpreter is root in the slot's user namespace, as init is, with three capabilities: to
 * become the job's user in the copy, and to kill what a job left. A job, being another user, can
 * neither signal nor look into it, and shares no descriptor and no writable memory with it. It is
 * the subreaper of the jobs' processes, so that it can prove that none is left; init has no child
 * but it.
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "internal.h"

/* What the interpreter finds open, besides 0, 1 and 2; sandboxd/warm/program.py has the numbers. */
enum { CONTROL_FD = 3, SLOT_FD, SHARED_FD, PROGRAM_FD, MODULE_FD, KNOWN_FD, FDS_END };

static void close_files(struct warm *warm) {
    for (int i = 0; i < WARM_FDS; i++)
        close_fd(&warm->fd[i]);
}

int warm_lift(struct warm *warm, const struct slot_plan *plan, int above) {
    const int from[WARM_FDS] = {plan->config->warm_program, plan->config->warm_module,
                                plan->config->warm_known, plan->shared_fd};
    warm->pid = 0;
    warm->sock = -1;
    for (int i = 0; i < WARM_FDS; i++) {
        warm->fd[i] = plan->warm ? fcntl(from[i], F_DUPFD_CLOEXEC, above) : -1;
        if (plan->warm && warm->fd[i] < 0)
            return -1;
    }
    return 0;
}

int warm_place(struct warm *warm, int first) {
    for (int i = 0; i < WARM_FDS; i++) {
        if (warm->fd[i] < 0)
            (void)close(first + i); /* whatever of the worker's it is */
        else if ((warm->fd[i] = dup3(warm->fd[i], first + i, O_CLOEXEC)) < 0)
            return -1;
    }
    return 0;
}

_Noreturn static void become_interpreter(const struct warm *warm, const struct config *config,
                                         int control, int slot_sock) {
    static char *none[] = {NULL};
    static const char *const argv[] = {"python3", "-s", "-B", "/proc/self/fd/6", NULL};
    const int from[] = {control,
                        slot_sock,
                        warm->fd[WARM_SHARED],
                        warm->fd[WARM_PROGRAM],
                        warm->fd[WARM_MODULE],
                        warm->fd[WARM_KNOWN]};
    enum { COUNT = sizeof from / sizeof *from };
    int above[COUNT];
    _Static_assert(PROGRAM_FD == 6 && CONTROL_FD + COUNT == FDS_END, "as argv says");
    for (int i = 0; i < COUNT; i++)
        if ((above[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 64)) < 0)
            _exit(1);
    for (int i = 0; i < COUNT; i++)
        if (dup2(above[i], CONTROL_FD + i) < 0)
            _exit(1);
    if (sys_close_range(FDS_END, ~0u, 0) < 0)
        _exit(1);
    (void)execve(config->interpreter, (char *const *)argv,
                 config->warm_env ? config->warm_env : none);
    _exit(1);
}

static ssize_t receive(const struct warm *warm, struct warm_msg *ret) {
    struct iovec part = {ret, sizeof *ret};
    struct fds fds;
    ssize_t n = message_receive(warm->sock, &part, 1, &fds, NULL, 0);
    fds_close(&fds); /* none is to come */
    return n;
}

int warm_start(struct warm *warm, const struct slot_plan *plan, int slot_sock) {
    int ends[2];
    struct warm_msg msg;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        close_files(warm);
        return -1;
    }
    pid_t pid = sys_fork();
    if (pid == 0)
        become_interpreter(warm, plan->config, ends[1], slot_sock);
    (void)close(ends[1]);
    close_files(warm);
    warm->sock = ends[0];
    if (pid > 0 && receive(warm, &msg) == sizeof msg) {
        warm->pid = pid;
        return 0;
    }
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, __WALL);
    }
    close_fd(&warm->sock);
    return -1;
}

int warm_run(struct warm *warm, struct slot_msg *end, uint64_t *ret_resident) {
    struct warm_msg msg = {0};
    struct iovec part = {&msg, sizeof msg};
    if (message_send(warm->sock, &part, 1, NULL) < 0 || receive(warm, &msg) != sizeof msg)
        return -1; /* the interpreter is gone, and with it the proof that nothing is left */
    end->exit_code = msg.exit_code;
    end->signal = msg.signal;
    end->end_ns = msg.end_ns;
    *ret_resident = msg.resident;
    return 0;
}
