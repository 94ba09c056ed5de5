/*
 * The prepared process: it waits in the slot until a job comes, then becomes the program.
 *
 * It gave up every privilege before it read the first byte, and it is under the seccomp filter. It
 * alone parses what a client wrote. What it has to say goes into the shared page.
 *
 * It runs in init's address space, on a stack of its own (init.c says why), so it allocates nothing
 * but what is noted in `scratch`, and keeps nothing it needs in memory init writes.
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "internal.h"

struct incoming {
    struct sbx_job job;
    char blob[SBX_INLINE_BLOB];
};

enum { MAX_POINTERS = 1024 }; /* to argv and env without a mapping of their own */
enum { RESULT_FD = 3, JOB_FDS };

/* Used by one prepared process after another, never by two at once. */
static struct incoming incoming;
static char *pointers[MAX_POINTERS];
static struct iovec scratch[2];

void job_release(void) {
    for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++)
        if (scratch[i].iov_base)
            (void)munmap(scratch[i].iov_base, scratch[i].iov_len);
    memset(scratch, 0, sizeof scratch);
    memset(&incoming.job, 0, sizeof incoming.job); /* a copy of the interpreter keeps its memory */
}

static void *map(struct iovec *ret, size_t len, int flags, int fd) {
    void *at = mmap(NULL, len, PROT_READ | (fd < 0 ? PROT_WRITE : 0), MAP_PRIVATE | flags, fd, 0);
    if (at == MAP_FAILED)
        return NULL;
    *ret = (struct iovec){at, len};
    return at;
}

_Noreturn static void give_up(struct slot_shared *shared, enum sbx_step step) {
    fail(&shared->fault, step);
    _exit(127);
}

#define TRY(step, expression)                                                                      \
    do {                                                                                           \
        if ((expression) < 0)                                                                      \
            give_up(shared, step);                                                                 \
    } while (0)

static int drop_privileges(uid_t uid) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    if (sys_become(uid) < 0)
        return -1;
    return (int)syscall(SYS_capset, &header, none);
}

/* The worker keeps both ends of each pipe: with a writer of its own it never sees an end of file,
 * so the job's end costs it no wake-up and a closed stdout no attention. */
static int make_pipes(int sock, bool warm, int write_end[2]) {
    struct slot_msg msg = {.type = SLOT_READY, .warm = warm};
    struct iovec part = {&msg, sizeof msg};
    struct fds fds = {.count = 4};
    if (pipe2(&fds.fd[0], O_CLOEXEC) < 0 || pipe2(&fds.fd[2], O_CLOEXEC) < 0 ||
        fcntl(fds.fd[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(fds.fd[2], F_SETFL, O_NONBLOCK) < 0)
        return -1;
    if (message_send(sock, &part, 1, &fds) < 0)
        return -1;
    write_end[0] = fds.fd[1];
    write_end[1] = fds.fd[3];
    (void)close(fds.fd[0]);
    (void)close(fds.fd[2]);
    return 0;
}

/* Where the host's hard limit is lower, that is the administrator's word. */
static int set_limit(int resource, uint64_t value) {
    struct rlimit limit = {value, value};
    if (setrlimit(resource, &limit) == 0)
        return 0;
    if (errno != EPERM || getrlimit(resource, &limit) < 0)
        return -1;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(resource, &limit);
}

static int set_limits(const struct sbx_limits *limits) {
    return set_limit(RLIMIT_NOFILE, limits->open_files) < 0 ||
                   set_limit(RLIMIT_FSIZE, limits->file_size_bytes) < 0 ||
                   set_limit(RLIMIT_STACK, limits->stack_bytes) < 0
               ? -1
               : 0;
}

/* The blob, inline or mapped. Returns its length or -1. */
static ssize_t find_blob(const struct incoming *in, ssize_t received, int memfd, const char **ret) {
    struct stat st;
    if (memfd < 0) {
        *ret = in->blob;
        return received - (ssize_t)sizeof in->job;
    }
    if (fstat(memfd, &st) < 0 || st.st_size <= 0)
        return -1;
    *ret = map(&scratch[0], (size_t)st.st_size, 0, memfd);
    return *ret ? (ssize_t)st.st_size : -1;
}

/* Short input fits into a pipe, so nobody has to feed it. */
static int stdin_pipe(const struct job_spec *spec) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    ssize_t n = write(ends[1], spec->stdin_data, spec->stdin_len);
    (void)close(ends[1]);
    return n == (ssize_t)spec->stdin_len ? ends[0] : -1;
}

/* What was passed has higher numbers: 0 to 3 were taken when it came. The last is for a result, and
 * mostly not there. */
static int set_descriptors(const int fd[JOB_FDS], bool tty) {
    int count = fd[RESULT_FD] < 0 ? RESULT_FD : JOB_FDS;
    for (int i = 0; i < count; i++)
        if (dup2(fd[i], i) < 0)
            return -1;
    if (tty && ioctl(0, TIOCSCTTY, 0) < 0)
        return -1;
    return sys_close_range((unsigned)count, ~0u, CLOSE_RANGE_CLOEXEC);
}

/* NULL-terminated pointers to count strings from *at on; *at is moved behind them. */
static char **list_strings(char **list, const char **at, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        list[i] = (char *)*at;
        *at += strlen(*at) + 1;
    }
    list[count] = NULL;
    return list;
}

/* Room for argv, env and the NULL behind each. */
static char **room_for_pointers(const struct job_spec *spec) {
    size_t count = (size_t)spec->argc + spec->envc + 2;
    if (count <= MAX_POINTERS)
        return pointers;
    return map(&scratch[1], count * sizeof *pointers, MAP_ANONYMOUS, -1);
}

static const char *find_path(char *const *env) {
    for (; *env; env++)
        if (!strncmp(*env, "PATH=", 5))
            return *env + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

/* execvpe(3) without its shell fallback: a script needs its #! line. */
static void execute(char **argv, char **env) {
    int error = ENOENT;
    if (strchr(argv[0], '/')) {
        (void)execve(argv[0], argv, env);
        return;
    }
    for (const char *path = find_path(env); *path; path += *path == ':') {
        char full[4096];
        size_t len = strcspn(path, ":");
        if (len && len + strlen(argv[0]) + 2 <= sizeof full) {
            memcpy(full, path, len);
            full[len] = '/';
            strcpy(full + len + 1, argv[0]);
            (void)execve(full, argv, env);
            if (errno == EACCES)
                error = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR)
                return;
        }
        path += len;
    }
    errno = error;
}

/* Not through /proc/self/fd: until the exec this process has descriptors no job may use. */
static int change_directory(const char *path) {
    const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_NO_MAGICLINKS};
    autoclose int dir = sys_openat2(AT_FDCWD, path, &how);
    return dir < 0 ? -1 : fchdir(dir);
}

void job_mark_start(struct slot_shared *shared) {
    shared->setup_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    __atomic_store_n(&shared->exec_ns, clock_ns(CLOCK_MONOTONIC), __ATOMIC_RELEASE);
}

/* The last steps, after which this process is the program's but for the exec. */
static void settle(const struct sbx_job *job, const struct job_spec *spec, const int stdio[JOB_FDS],
                   int work, struct slot_shared *shared, struct job_start *ret) {
    const char *at = spec->strings;
    char **room = room_for_pointers(spec);
    if (!room || !spec->argc)
        give_up(shared, SBX_STEP_BLOB);
    char **argv = list_strings(room, &at, spec->argc);
    char **env = list_strings(room + spec->argc + 1, &at, spec->envc);
    if (job->flags & SBX_JOB_COLLECT) {
        int out = fcntl(stdio[1], F_DUPFD_CLOEXEC, 3);
        job_mark_start(shared);
        TRY(SBX_STEP_COLLECT,
            collect_files(work, out, (const char *const *)argv, job->limits.file_size_bytes));
        _exit(0);
    }
    if (*spec->cwd)
        TRY(SBX_STEP_CWD, change_directory(spec->cwd));
    if (job->umask != INIT_UMASK)
        (void)umask(job->umask & 0777);
    TRY(SBX_STEP_TTY, set_descriptors(stdio, job->flags & SBX_JOB_TTY));
    TRY(SBX_STEP_RLIMIT, set_limits(&job->limits)); /* late: open_files may be less than three */
    if (job->flags & SBX_JOB_NO_LOCKS)
        TRY(SBX_STEP_SECCOMP, forbid_locks());
    *ret = (struct job_start){job, argv, env};
}

_Noreturn void job_execute(const struct job_start *start, struct slot_shared *shared) {
    execute(start->argv, start->env);
    give_up(shared, SBX_STEP_EXEC);
}

static int next_fd(const struct fds *fds, unsigned *at, uint32_t mask, enum sbx_fd bit) {
    return mask & bit && *at < fds->count ? fds->fd[(*at)++] : -1;
}

void job_prepare(int sock, struct slot_shared *shared, bool warm, struct job_start *ret) {
    int pipes[2];
    TRY(SBX_STEP_FORK, setsid());
    TRY(SBX_STEP_CREDENTIALS, drop_privileges(shared->guest ? GUEST_UID : JOB_UID));
    /* A file that reaches its limit makes write fail with EFBIG instead of killing the writer. */
    (void)signal(SIGXFSZ, SIG_IGN);
    /* Opened here and not inherited: status flags and locks belong to the open file description,
     * and the next job must not find what this one did to it. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    TRY(SBX_STEP_STDIN, null);
    int work = open("/work", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    /* An earlier stage may have closed the directory to itself. That is this job's trouble, and it
     * has to be told so: whoever has said READY reads the message that answers it. */
    int trouble = work < 0 || fchdir(work) < 0 ? errno : 0;
    TRY(SBX_STEP_PIPE, make_pipes(sock, warm, pipes));

    struct iovec part = {&incoming, sizeof incoming};
    struct fds fds;
    ssize_t n = message_receive(sock, &part, 1, &fds, NULL, 0);
    if (n < (ssize_t)sizeof incoming.job)
        _exit(0); /* the worker is gone */

    errno = trouble;
    TRY(SBX_STEP_CWD, trouble ? -1 : 0);
    const struct sbx_job *job = &incoming.job;
    if (job->limits.cpu) /* first of all: what it does for the job is the job's */
        TRY(SBX_STEP_CPU, keep_to_cpu(job->limits.cpu - 1));
    unsigned at = 0;
    int blob_fd = next_fd(&fds, &at, job->fd_mask, SBX_FD_BLOB);
    int stdio[JOB_FDS];
    stdio[0] = next_fd(&fds, &at, job->fd_mask, SBX_FD_STDIN);
    stdio[1] = next_fd(&fds, &at, job->fd_mask, SBX_FD_STDOUT);
    stdio[2] = next_fd(&fds, &at, job->fd_mask, SBX_FD_STDERR);
    stdio[RESULT_FD] = next_fd(&fds, &at, job->fd_mask, SBX_FD_RESULT);

    const char *blob;
    struct job_spec spec;
    ssize_t len = find_blob(&incoming, n, blob_fd, &blob);
    TRY(SBX_STEP_BLOB, len);
    TRY(SBX_STEP_BLOB, blob_parse(blob, (size_t)len, &spec));
    TRY(SBX_STEP_FILE, stage_files(work, &spec));
    if (stdio[0] < 0)
        stdio[0] = spec.stdin_len ? stdin_pipe(&spec) : null;
    TRY(SBX_STEP_STDIN, stdio[0]);
    for (int i = 1; i < 3; i++)
        if (stdio[i] < 0)
            stdio[i] = pipes[i - 1];
    settle(job, &spec, stdio, work, shared, ret);
}

void job_main(int sock, struct slot_shared *shared) {
    struct job_start start;
    job_prepare(sock, shared, false, &start);
    job_mark_start(shared);
    job_execute(&start, shared);
}
