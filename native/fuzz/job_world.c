#define _GNU_SOURCE
#include "job_world.h"

#include <dirent.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "fuzz.h"

enum { SEEN_FDS = 256 };

static jmp_buf over;
static char root[256], work[272];
static bool had[SEEN_FDS]; /* the descriptors that are not the prepared process's */

/* ---- what job.c and stage.c call instead of the C library ---- */

pid_t fake_setsid(void);
int fake_setrlimit(int resource, const struct rlimit *limit);
int fake_open(const char *path, int flags, ...);
int fake_dup2(int from, int to);
int fake_fchdir(int dir);
int fake_ioctl(int fd, unsigned long request, ...);
long fake_syscall(long number, ...);
mode_t fake_umask(mode_t mask);
_Noreturn void fake__exit(int code);

pid_t fake_setsid(void) { return 1; }

int fake_setrlimit(int resource, const struct rlimit *limit) {
    FUZZ_CHECK(resource >= 0 && limit->rlim_cur <= limit->rlim_max);
    return 0;
}

int fake_open(const char *path, int flags, ...) {
    FUZZ_CHECK(!(flags & O_CREAT));
    return open(strcmp(path, "/work") ? path : work, flags);
}

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

int fake_dup2(int from, int to) {
    FUZZ_CHECK(to >= 0 && to < 4);
    return is_open(from) ? to : -1;
}

int fake_fchdir(int dir) { return is_open(dir) ? 0 : -1; }

int fake_ioctl(int fd, unsigned long request, ...) {
    (void)request;
    errno = ENOTTY;
    return is_open(fd) ? -1 : 0;
}

long fake_syscall(long number, ...) {
    va_list arguments;
    va_start(arguments, number);
    long first = va_arg(arguments, long), second = va_arg(arguments, long);
    long third = va_arg(arguments, long), fourth = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_capset || number == SYS_close_range)
        return 0;
    if (number == SYS_setresuid || number == SYS_setresgid) {
        FUZZ_CHECK(first == JOB_UID && second == JOB_UID && third == JOB_UID);
        return 0;
    }
    return syscall(number, first, second, third, fourth);
}

mode_t fake_umask(mode_t mask) {
    FUZZ_CHECK(!(mask & ~(mode_t)0777));
    return 0;
}

/* locks.c */
int forbid_locks(void) { return 0; }

/* affinity.c */
int keep_to_cpu(unsigned number) {
    (void)number;
    return 0;
}

void fake__exit(int code) { longjmp(over, code + 1); }

/* ---- one life ---- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type;
    return at->level > 0 ? remove(path) : 0;
}

static void remove_root(void) {
    (void)nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    (void)rmdir(root);
}

static void make_root(void) {
    fuzz_make_directory(root, sizeof root);
    snprintf(work, sizeof work, "%s/work", root);
    FUZZ_CHECK(mkdir(work, 0755) == 0 && atexit(remove_root) == 0);
}

unsigned world_begin(void) {
    if (!*root)
        make_root();
    for (int fd = 0; fd < SEEN_FDS; fd++)
        had[fd] = is_open(fd);
    return fuzz_count_fds();
}

bool world_run(int sock, struct job_start *ret) {
    static struct slot_shared shared;
    memset(&shared, 0, sizeof shared);
    if (setjmp(over))
        return false;
    job_prepare(sock, &shared, false, ret);
    FUZZ_CHECK(!shared.fault.step);
    return true;
}

void world_stage(const struct job_spec *spec) {
    autoclose int dir = open(work, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    FUZZ_CHECK(dir >= 0);
    (void)stage_files(dir, spec);
}

static unsigned count_entries(const char *path) {
    DIR *dir = opendir(path);
    unsigned count = 0;
    FUZZ_CHECK(dir);
    while (readdir(dir))
        count++;
    (void)closedir(dir);
    return count;
}

void world_end(unsigned before) {
    for (int fd = 0; fd < SEEN_FDS; fd++)
        if (!had[fd] && is_open(fd))
            (void)close(fd);
    FUZZ_CHECK(fuzz_count_fds() == before);
    if (count_entries(work) > 2)
        FUZZ_CHECK(nftw(work, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
    FUZZ_CHECK(count_entries(root) == 3);
}
