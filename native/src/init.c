/*
 * init: pid 1 of a slot. Root in the slot's user namespace only, where it keeps the few
 * capabilities it needs; on the host it is an id nobody else has. It puts on the seccomp filter
 * once, and every job's process inherits it. It never reads anything a job or a client wrote.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "internal.h"
#include "seccomp_policy.h"

enum {
    STACK_BYTES = 512 << 10, /* collect.c walks 64 levels deep */
    GUARD_BYTES = 64 << 10,
    LONGEST_WAIT_MS = 16, /* for what the kernel frees late; twice that in all */
};

struct init {
    const struct slot_plan *plan;
    char *stack_top; /* the prepared process's stack */
    struct slot_shared *shared;
    int sock;
    struct cgroup cgroup; /* its counters only */
    struct root root;
    int tree; /* the environment's root until it is mounted, or -1 */
    struct pristine pristine;
    int network;     /* a socket of the slot's network namespace, for the worker */
    uint64_t cpu_ns; /* its own CPU time at the last SLOT_END */
    struct warm warm;
};

static void tell(struct init *init, struct slot_msg msg, const struct fds *fds) {
    struct iovec part = {&msg, sizeof msg};
    if (message_send(init->sock, &part, 1, fds) < 0)
        _exit(1); /* the worker is gone, and with it the reason to live */
}

static int be_root_of_namespace(struct fault *fault) {
    if (sys_drop_groups() < 0 || sys_become(INIT_UID) < 0)
        return fail(fault, SBX_STEP_CREDENTIALS);
    /* After that, which clears it. The parent is the worker (CLONE_PARENT). */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
        return fail(fault, SBX_STEP_CREDENTIALS);
    return 0;
}

static int prepare_namespaces(struct init *init, struct fault *fault) {
    /* After the move into the cgroup, so that its path is the root of what /proc/self/cgroup says.
     */
    if (unshare(CLONE_NEWCGROUP) < 0)
        return fail(fault, SBX_STEP_CGROUP);
    if (sethostname("sandbox", 7) < 0)
        return fail(fault, SBX_STEP_CLONE);
    init->network = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return init->network < 0 ? fail(fault, SBX_STEP_NETWORK) : 0;
}

/* RLIMIT_CORE: 1 byte stops a dump into a file and, unlike 0, into a program (core(5)); the filter
 * keeps a job from changing it. */
static int set_constant_rlimits(struct fault *fault) {
    static const struct {
        int resource;
        rlim_t most;
    } limits[] = {{RLIMIT_CORE, 1},
                  {RLIMIT_MEMLOCK, 65536},
                  {RLIMIT_MSGQUEUE, 0},
                  {RLIMIT_RTPRIO, 0},
                  {RLIMIT_NICE, 0}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit;
        if (getrlimit(limits[i].resource, &limit) < 0)
            return fail(fault, SBX_STEP_RLIMIT);
        if (limit.rlim_max > limits[i].most) /* RLIM_INFINITY is the largest value */
            limit.rlim_max = limits[i].most;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(limits[i].resource, &limit) < 0)
            return fail(fault, SBX_STEP_RLIMIT);
    }
    return 0;
}

/* Before the filter, which keeps a job from it. Every process of the slot descends from init and
 * has the same cookie; no other task has, so that none of another slot runs beside one on a core.
 * Where no hardware threads share one (ENODEV) that is so without. */
static int separate_cores(const struct config *config, struct fault *fault) {
    if (!config->core_scheduling ||
        prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_THREAD, 0) == 0 ||
        errno == ENODEV)
        return 0;
    return fail(fault, SBX_STEP_CORE);
}

static int drop_capabilities(struct fault *fault) {
    /* For the job's ids, for what a job left (any mode, any owner), and for ns_last_pid. */
    const uint64_t keep = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL |
                          1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER |
                          1ull << CAP_CHECKPOINT_RESTORE;
    /* For the interpreter, the one program that is executed with any; see warm.c. What may be
     * inherited must be said before the bounding set is emptied. */
    const uint32_t pass = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return fail(fault, SBX_STEP_CREDENTIALS);
    data[0].inheritable = pass;
    data[1].inheritable = 0;
    if (syscall(SYS_capset, &header, data) < 0)
        return fail(fault, SBX_STEP_CREDENTIALS);
    for (int cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_DROP, cap) < 0) {
            if (errno == EINVAL)
                break; /* beyond the last one this kernel knows */
            return fail(fault, SBX_STEP_CREDENTIALS);
        }
    data[0].effective = data[0].permitted = (uint32_t)keep;
    data[1].effective = data[1].permitted = (uint32_t)(keep >> 32);
    if (syscall(SYS_capset, &header, data) < 0)
        return fail(fault, SBX_STEP_CREDENTIALS);
    return 0;
}

static int install_filter(struct fault *fault) {
    struct sock_fprog program = {.len = sizeof sbx_policy / sizeof *sbx_policy,
                                 .filter = (struct sock_filter *)sbx_policy};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return fail(fault, SBX_STEP_SECCOMP);
    return 0;
}

static int take_standard_fds(int null) {
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            return -1;
    return 0;
}

enum {
    SOCKET_FD = 3,
    FIRST_COUNTER_FD = 4,
    WARM_FD = FIRST_COUNTER_FD + COUNTER_FDS, /* until the interpreter is started */
    TREE_FD = WARM_FD + WARM_FDS,             /* until the root is built */
    KEPT_FDS = TREE_FD + 1,
};

/* Keeps the socket, the cgroup's counters and the root's tree; nothing else of the worker stays. 0,
 * 1 and 2 are taken at all times, so that nothing opened later is found there by mistake. */
static int close_inherited(struct init *init) {
    int sock = fcntl(init->sock, F_DUPFD_CLOEXEC, KEPT_FDS);
    int low = open("/dev/null", O_RDWR | O_CLOEXEC), null = fcntl(low, F_DUPFD_CLOEXEC, KEPT_FDS);
    init->cgroup = *init->plan->cgroup;
    init->tree = init->plan->tree < 0 ? -1 : fcntl(init->plan->tree, F_DUPFD_CLOEXEC, KEPT_FDS);
    if (sock < 0 || null < 0 || warm_lift(&init->warm, init->plan, KEPT_FDS) < 0 ||
        cgroup_keep_counters(&init->cgroup, FIRST_COUNTER_FD) < 0 ||
        warm_place(&init->warm, WARM_FD) < 0 || dup3(sock, SOCKET_FD, O_CLOEXEC) < 0 ||
        take_standard_fds(null) < 0)
        return -1;
    init->sock = SOCKET_FD;
    if (init->plan->tree >= 0 && (init->tree = dup3(init->tree, TREE_FD, O_CLOEXEC)) < 0)
        return -1;
    return sys_close_range(init->tree < 0 ? TREE_FD : KEPT_FDS, ~0u, 0);
}

static int make_stack(struct init *init, struct fault *fault) {
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, GUARD_BYTES, PROT_NONE) < 0)
        return fail(fault, SBX_STEP_FORK);
    init->stack_top = stack + STACK_BYTES;
    return 0;
}

static struct init *stopped; /* for the signal handler */

/* The worker's SIGTERM: a limit was reached, or the job was cancelled. One call kills everything,
 * as reap_rest() says. It may come late: the next process, which has not been given a job, is not
 * meant. A job cannot send it, being another user. */
static void on_stop(int number) {
    (void)number;
    struct slot_shared *shared = stopped->shared;
    if (__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE) != shared->served)
        return; /* and leaves errno alone, which the next process shares until its exec */
    int error = errno;
    if (stopped->warm.pid > 0)
        (void)kill(stopped->warm.pid, SIGTERM); /* it does the same, and spares itself */
    else
        (void)kill(-1, SIGKILL);
    errno = error;
}

static int take_stops(struct init *init, struct fault *fault) {
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    stopped = init;
    return sigaction(SIGTERM, &action, NULL) < 0 ? fail(fault, SBX_STEP_FORK) : 0;
}

static int build(struct init *init, struct fault *fault) {
    keeper_signals(SIG_DFL);               /* jobs inherit what init has */
    (void)setpriority(PRIO_PROCESS, 0, 0); /* needs no right, as the helper is above that */
    (void)umask(
        INIT_UMASK); /* whatever the administrator's is: the job must be able to look around */
    struct sources sources;
    if (root_open_sources(init->plan, &sources, fault) < 0 || be_root_of_namespace(fault) < 0 ||
        prepare_namespaces(init, fault) < 0 ||
        root_build(init->plan, init->tree, &sources, &init->root, fault) < 0)
        return -1;
    close_fd(&init->tree);
    if (take_standard_fds(init->root.null) < 0) /* instead of the host's */
        return fail(fault, SBX_STEP_DEV);
    if (pristine_note(&init->pristine, &init->root) < 0)
        return fail(fault, SBX_STEP_TMPFS);
    if (make_stack(init, fault) < 0 || take_stops(init, fault) < 0 ||
        set_constant_rlimits(fault) < 0 || separate_cores(init->plan->config, fault) < 0 ||
        drop_capabilities(fault) < 0)
        return -1;
    return install_filter(fault);
}

/* The next process gets pid 2 again: how many ran before is nobody's business. */
static int rewind_pids(struct init *init, struct fault *fault) {
    if (pwrite(init->root.last_pid, "1", 1, 0) == 1)
        return 0;
    return fail(fault, SBX_STEP_RESET);
}

static int job_entry(void *argument) {
    struct init *init = argument;
    job_main(init->sock, init->shared);
}

/*
 * The prepared process shares init's memory until it execs (CLONE_VM, as vfork does), which spares
 * each job the copying of page tables, the faults on copied pages and the tearing down of the copy:
 * 80 us of 104 for the fork alone, measured on a 2.6 GHz EPYC guest. It has its own descriptors,
 * credentials and signal handlers. The two never need the same memory at the same time: init sleeps
 * in waitid from the clone to the exec, and does not look at errno until then.
 */
static pid_t prepare_process(struct init *init) {
    return clone(job_entry, init->stack_top, CLONE_VM | SIGCHLD, init);
}

static uint64_t smaller(uint64_t one, uint64_t other) { return one < other ? one : other; }

/* A program may use memory, give it back and then read files until cache takes its place; or take
 * the place of what an earlier stage's compiler left, once the kernel has freed that. What is
 * reported is at least what one of its processes had, as far as the peak allows. A program so small
 * that it moved no counter (they go in batches of 64 pages) is reported by that alone. */
static void raise_to_resident(struct usage *usage, uint64_t resident) {
    uint64_t had = usage->memory_peak ? smaller(resident, usage->memory_most) : resident;
    if (usage->memory_peak < had)
        usage->memory_peak = had;
    uint64_t least = smaller(resident, usage->memory_peak);
    if (usage->memory < usage->memory_peak && usage->memory < least)
        usage->memory = least;
}

/* The job's use, and with it where the next one's begins. */
static void account(struct init *init, uint64_t resident, struct slot_msg *ret) {
    struct slot_shared *shared = init->shared;
    uint64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    cgroup_usage(&init->cgroup, &shared->base, shared->memory, &ret->usage);
    shared->base.cpu_ns += ret->usage.cpu_ns;
    shared->base.pids_hits += ret->usage.process_limit_hits;
    ret->usage.cpu_ns =
        less(ret->usage.cpu_ns, cpu_ns - init->cpu_ns + shared->setup_cpu_ns + shared->warm_cpu_ns);
    init->cpu_ns = cpu_ns;
    raise_to_resident(&ret->usage, resident);
    ret->exec_ns = shared->exec_ns;
    ret->fault = shared->fault;
}

static int begin(struct init *init, struct fault *fault) {
    struct slot_shared *shared = init->shared;
    shared->served++;
    shared->exec_ns = shared->setup_cpu_ns = shared->warm_cpu_ns = 0;
    shared->fault = (struct fault){0, 0};
    shared->base.files = pristine_used(&init->pristine);
    if (cgroup_begin(&init->cgroup, &shared->base, shared->next_memory) < 0)
        return fail(fault, SBX_STEP_CGROUP);
    return 0;
}

/* From the prepared process to the end of everything that came of it. */
static int run_process(struct init *init, struct slot_msg *end, uint64_t *ret_resident,
                       struct fault *fault) {
    uint64_t *used = &init->shared->init_cpu_ns;
    if (init->warm.pid > 0) {
        *used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - init->cpu_ns;
        return warm_run(&init->warm, end, ret_resident) < 0 ? fail(fault, SBX_STEP_FORK) : 0;
    }
    pid_t pid = prepare_process(init);
    if (pid < 0)
        return fail(fault, SBX_STEP_FORK);
    *used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - init->cpu_ns;
    *ret_resident = reap_main(pid, end);
    reap_rest();
    job_release();
    return 0;
}

/* Processes, timers and page tables are freed some milliseconds after their end, when no CPU can
 * look at them any more (RCU); a shell that started a hundred programs leaves 2 MiB. No event says
 * when. A new slot would be dearer, an interpreter's most of all. */
static bool is_as_new(const struct init *init) {
    const struct base *base = &init->shared->base;
    enum leftover left;
    for (long wait_ms = 1; (left = cgroup_leftover(&init->cgroup, base)); wait_ms *= 2) {
        if (wait_ms > LONGEST_WAIT_MS || left == LEFT_FILES)
            return false;
        (void)nanosleep(&(struct timespec){.tv_nsec = wait_ms * 1000000}, NULL);
    }
    return true;
}

static int reset(struct init *init, struct fault *fault) {
    if (slot_reset(&init->pristine, fault) < 0)
        return -1;
    if (is_as_new(init))
        return 0;
    errno = EBUSY;
    return fail(fault, SBX_STEP_RESET);
}

/* One job. Returns -1 where the slot cannot serve another. */
static int run_one(struct init *init, struct fault *fault) {
    struct slot_msg end = {.type = SLOT_END};
    if (begin(init, fault) < 0)
        return -1;
    uint64_t resident = 0;
    if (run_process(init, &end, &resident, fault) < 0)
        return -1;
    account(init, resident, &end);
    bool keep = init->shared->keep, single_use = init->shared->single_use;
    tell(init, end, NULL);
    if (single_use || !end.exec_ns)
        return -1; /* the worker kills this slot */
    /* A message wakes its reader on the CPU of the writer, who is expected to sleep soon: without
     * giving way, the report would wait for the reset, and its reader for the next process. */
    (void)sched_yield();
    if ((!keep && reset(init, fault) < 0) || rewind_pids(init, fault) < 0)
        return -1;
    (void)sched_yield();
    return 0;
}

/* Where that fails the slot serves all the same, with programs started anew. */
static void start_interpreter(struct init *init) {
    uint64_t before = cgroup_memory(&init->cgroup);
    if (!init->plan->warm || warm_start(&init->warm, init->plan, init->sock) < 0)
        return;
    init->shared->base.warm = less(cgroup_memory(&init->cgroup), before);
}

void init_main(const struct slot_plan *plan, int go) {
    struct init init = {.plan = plan, .shared = plan->shared, .sock = plan->sock};
    struct slot_msg msg = {.type = SLOT_FAILED};
    char byte;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* until be_root_of_namespace() */
    if (read(go, &byte, 1) != 1)
        _exit(1); /* the builder failed and has said so */
    if (close_inherited(&init) < 0)
        fail(&msg.fault, SBX_STEP_CREDENTIALS);
    else if (build(&init, &msg.fault) == 0)
        goto built;
    tell(&init, msg, NULL);
    _exit(1);
built:;
    struct fds fds = {2, {init.root.tmpfs, init.network}};
    tell(&init, (struct slot_msg){.type = SLOT_BUILT}, &fds);
    fds_close(&fds);
    start_interpreter(&init);
    pristine_note_sockets(&init.pristine);
    init.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    while (run_one(&init, &msg.fault) == 0)
        ;
    msg.type = SLOT_UNCLEAN;
    tell(&init, msg, NULL);
    (void)pause(); /* the worker kills this slot */
    _exit(1);
}
