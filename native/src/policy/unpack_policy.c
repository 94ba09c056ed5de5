/*
 * Writes the seccomp policies of the process that unpacks archives (sandboxd/unpack) as a C header:
 * a build-time program.
 *
 * Theory of operation. That process runs one program of ours, and zstd, so unlike the policy of
 * jobs this is an allow list: what they, Python and the C library need to read, compute and write
 * files by descriptors. Anything else, and any call that is younger than this list, does not exist
 * (ENOSYS), so that a newer C library falls back to what an older one would do. What the process
 * could harm others by is named all the same and refused with EPERM: no fallback, and an error that
 * says what it was.
 *
 * There are three programs because zstd is started when the archive's first bytes are known. The
 * first is installed before any byte is read. Before decompression begins the other two are laid
 * over it: no more processes (zstd itself, too, which may make threads), and no other programs (not
 * zstd, which is yet to be executed; another program would be under the same filters).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "emit.h"

enum {
    /* From 424 on all architectures share the numbers; libseccomp 2.5.0 has no names for these. */
    NR_FCHMODAT2 = 452,
    NR_SETXATTRAT = 463,
    NR_REMOVEXATTRAT = 466,
    NR_FILE_SETATTR = 469,
    NAME_MEMORY = 0x53564d41, /* PR_SET_VMA, since Linux 5.17 */
};

#define ALL 0xffffffffu
#define SPECIAL_BITS (S_ISUID | S_ISGID | S_ISVTX)
/* CLONE_PARENT would make a process of the daemon's, which signals the daemon when it ends. */
#define UNNEEDED_CLONE_FLAGS                                                                       \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET | CLONE_PARENT | CLONE_PTRACE | CLONE_PIDFD)

#define CALL(name) SCMP_SYS(name)

static const int allowed_calls[] = {
    /* Descriptors. */
    CALL(read),
    CALL(write),
    CALL(readv),
    CALL(writev),
    CALL(pread64),
    CALL(pwrite64),
    CALL(preadv),
    CALL(pwritev),
    CALL(lseek),
    CALL(_llseek),
    CALL(close),
    CALL(close_range),
    CALL(dup),
    CALL(dup2),
    CALL(dup3),
    CALL(pipe),
    CALL(pipe2),
    CALL(poll),
    CALL(ppoll),
    CALL(select),
    CALL(pselect6),
    CALL(fadvise64),
    CALL(readahead),
    CALL(fallocate),
    CALL(ftruncate),
    CALL(fsync),
    CALL(fdatasync),
    CALL(syncfs),
    /* Names. What may be opened or changed by name is Landlock's to say. */
    CALL(stat),
    CALL(lstat),
    CALL(fstat),
    CALL(newfstatat),
    CALL(statx),
    CALL(statfs),
    CALL(fstatfs),
    CALL(access),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(readlink),
    CALL(readlinkat),
    CALL(getdents),
    CALL(getdents64),
    CALL(getcwd),
    CALL(mkdirat),
    CALL(unlinkat),
    CALL(unlink),
    CALL(rmdir),
    CALL(symlinkat),
    CALL(linkat),
    /* Memory and threads. */
    CALL(brk),
    CALL(mmap),
    CALL(munmap),
    CALL(mprotect),
    CALL(mremap),
    CALL(madvise),
    CALL(membarrier),
    CALL(futex),
    CALL(set_robust_list),
    CALL(set_tid_address),
    CALL(rseq),
    CALL(arch_prctl),
    CALL(sched_yield),
    CALL(sched_getaffinity),
    CALL(getcpu),
    /* Its own signals, and waiting for zstd. */
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(rt_sigreturn),
    CALL(rt_sigpending),
    CALL(sigaltstack),
    CALL(restart_syscall),
    CALL(wait4),
    CALL(waitid),
    CALL(exit),
    CALL(exit_group),
    /* Starting zstd; see no_process and no_program. */
    CALL(fork),
    CALL(vfork),
    CALL(execve),
    /* Questions. */
    CALL(getpid),
    CALL(getppid),
    CALL(gettid),
    CALL(getpgrp),
    CALL(getpgid),
    CALL(getsid),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getresuid),
    CALL(getresgid),
    CALL(getgroups),
    CALL(getrlimit),
    CALL(getrusage),
    CALL(getrandom),
    CALL(times),
    CALL(time),
    CALL(gettimeofday),
    CALL(clock_gettime),
    CALL(clock_getres),
    CALL(clock_nanosleep),
    CALL(nanosleep),
    CALL(uname),
    CALL(sysinfo),
    CALL(umask),
};

/* Calls allowed when up to two arguments, masked, have a value. */
struct allowed_argument {
    int number;
    unsigned count;
    struct scmp_arg_cmp compare[2];
};

#define IF(index, mask, value) {index, SCMP_CMP_MASKED_EQ, mask, value}
#define ALLOW_IF(name, ...)                                                                        \
    {                                                                                              \
        SCMP_SYS(name), 1, { __VA_ARGS__ }                                                         \
    }
#define ALLOW_IF_BOTH(name, ...)                                                                   \
    {                                                                                              \
        SCMP_SYS(name), 2, { __VA_ARGS__ }                                                         \
    }
#define ALLOW_VALUE(name, index, value) ALLOW_IF(name, IF(index, ALL, value))

static const struct allowed_argument allowed_arguments[] = {
    /* No set-id file is made, whatever an archive makes of this process. */
    ALLOW_IF(open, IF(2, SPECIAL_BITS, 0)),
    ALLOW_IF(openat, IF(3, SPECIAL_BITS, 0)),
    ALLOW_IF(mkdir, IF(1, SPECIAL_BITS, 0)),
    ALLOW_IF(fchmod, IF(1, SPECIAL_BITS, 0)),
    /* Not F_SETOWN with F_SETSIG, which send signals to others. */
    ALLOW_VALUE(fcntl, 1, F_DUPFD),
    ALLOW_VALUE(fcntl, 1, F_DUPFD_CLOEXEC),
    ALLOW_VALUE(fcntl, 1, F_GETFD),
    ALLOW_VALUE(fcntl, 1, F_SETFD),
    ALLOW_VALUE(fcntl, 1, F_GETFL),
    ALLOW_IF_BOTH(fcntl, IF(1, ALL, F_SETFL), IF(2, O_ASYNC, 0)),
    /* What isatty(3) and Python ask. */
    ALLOW_VALUE(ioctl, 1, TCGETS),
    ALLOW_VALUE(ioctl, 1, 0x802c542a), /* TCGETS2 */
    ALLOW_VALUE(ioctl, 1, TIOCGWINSZ),
    ALLOW_VALUE(ioctl, 1, FIOCLEX),
    ALLOW_VALUE(ioctl, 1, FIONCLEX),
    ALLOW_VALUE(ioctl, 1, FIONREAD),
    ALLOW_VALUE(ioctl, 1, FIONBIO),
    ALLOW_IF(clone, IF(0, UNNEEDED_CLONE_FLAGS, 0)),
    ALLOW_VALUE(prctl, 0, PR_SET_NO_NEW_PRIVS),
    ALLOW_VALUE(prctl, 0, PR_SET_NAME),
    ALLOW_VALUE(prctl, 0, NAME_MEMORY),
    /* zstd dies with its parent, and cannot choose otherwise. */
    ALLOW_IF_BOTH(prctl, IF(0, ALL, PR_SET_PDEATHSIG), IF(1, ALL, SIGKILL)),
    ALLOW_IF_BOTH(prctl, IF(0, ALL, PR_SET_SECCOMP), IF(1, ALL, SECCOMP_MODE_FILTER)),
};

static const int denied_calls[] = {
    /* Modes, owners and attributes of what is the daemon's, which Landlock does not look at. */
    CALL(chmod),
    CALL(fchmodat),
    NR_FCHMODAT2,
    CALL(chown),
    CALL(lchown),
    CALL(fchown),
    CALL(fchownat),
    CALL(setxattr),
    CALL(lsetxattr),
    CALL(fsetxattr),
    NR_SETXATTRAT,
    CALL(removexattr),
    CALL(lremovexattr),
    CALL(fremovexattr),
    NR_REMOVEXATTRAT,
    NR_FILE_SETATTR,
    CALL(utime),
    CALL(utimes),
    CALL(futimesat),
    CALL(truncate),
    CALL(mknod),
    CALL(mknodat),
    /* Sockets. The way back to the daemon is a pipe. */
    CALL(socket),
    CALL(socketpair),
    CALL(connect),
    CALL(bind),
    CALL(listen),
    CALL(accept),
    CALL(accept4),
    CALL(sendto),
    CALL(sendmsg),
    CALL(sendmmsg),
    CALL(recvfrom),
    CALL(recvmsg),
    CALL(recvmmsg),
    CALL(shutdown),
    CALL(setsockopt),
    CALL(getsockopt),
    /* Other processes: the daemon has the same uid. */
    CALL(kill),
    CALL(tkill),
    CALL(tgkill),
    CALL(rt_sigqueueinfo),
    CALL(rt_tgsigqueueinfo),
    CALL(pidfd_open),
    CALL(pidfd_send_signal),
    CALL(pidfd_getfd),
    CALL(ptrace),
    CALL(process_vm_readv),
    CALL(process_vm_writev),
    CALL(process_madvise),
    CALL(kcmp),
    CALL(setpriority),
    CALL(ioprio_set),
    CALL(sched_setaffinity),
    CALL(sched_setparam),
    CALL(sched_setscheduler),
    CALL(sched_setattr),
    CALL(migrate_pages),
    CALL(move_pages),
    CALL(execveat),
    /* Namespaces, mounts and roots. */
    CALL(unshare),
    CALL(setns),
    CALL(mount),
    CALL(umount2),
    CALL(pivot_root),
    CALL(chroot),
    CALL(move_mount),
    CALL(open_tree),
    CALL(fsopen),
    CALL(fsconfig),
    CALL(fsmount),
    CALL(fspick),
    CALL(open_by_handle_at),
    /* Interfaces with a long list of kernel bugs. */
    CALL(bpf),
    CALL(perf_event_open),
    CALL(userfaultfd),
    CALL(io_uring_setup),
    CALL(io_uring_enter),
    CALL(io_uring_register),
    CALL(add_key),
    CALL(keyctl),
    CALL(request_key),
};

/* Calls refused unless one argument is zero. */
static const struct {
    int number;
    unsigned index;
} only_zero[] = {
    {SCMP_SYS(utimensat), 1}, /* the times of a descriptor, not of a name */
    {SCMP_SYS(prlimit64), 0}, /* its own limits */
};

static scmp_filter_ctx begin(uint32_t action) {
    scmp_filter_ctx filter = seccomp_init(action);
    if (!filter)
        die("cannot begin a filter", ENOMEM);
    /* 2 = a binary tree of call numbers. */
    int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (!error)
        error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
    if (error)
        die("cannot set the filter's attributes", -error);
    return filter;
}

static void add(scmp_filter_ctx filter, uint32_t action, int number, unsigned count,
                const struct scmp_arg_cmp *compare) {
    if (number < 0)
        return; /* Not a call of this architecture; the name is checked by the compiler. */
    int error = seccomp_rule_add_exact_array(filter, action, number, count, compare);
    if (error)
        die("cannot add a rule", -error);
}

static scmp_filter_ctx base(void) {
    scmp_filter_ctx filter = begin(SCMP_ACT_ERRNO(ENOSYS));
    for (size_t i = 0; i < sizeof allowed_calls / sizeof *allowed_calls; i++)
        add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0, NULL);
    for (size_t i = 0; i < sizeof allowed_arguments / sizeof *allowed_arguments; i++) {
        const struct allowed_argument *a = &allowed_arguments[i];
        add(filter, SCMP_ACT_ALLOW, a->number, a->count, a->compare);
    }
    for (size_t i = 0; i < sizeof only_zero / sizeof *only_zero; i++) {
        struct scmp_arg_cmp zero = {only_zero[i].index, SCMP_CMP_EQ, 0, 0};
        struct scmp_arg_cmp other = {only_zero[i].index, SCMP_CMP_NE, 0, 0};
        add(filter, SCMP_ACT_ALLOW, only_zero[i].number, 1, &zero);
        add(filter, SCMP_ACT_ERRNO(EPERM), only_zero[i].number, 1, &other);
    }
    for (size_t i = 0; i < sizeof denied_calls / sizeof *denied_calls; i++)
        add(filter, SCMP_ACT_ERRNO(EPERM), denied_calls[i], 0, NULL);
    return filter;
}

/* Threads only. clone3, whose flags a filter cannot see, does not exist already. */
static scmp_filter_ctx no_process(void) {
    struct scmp_arg_cmp process = IF(0, CLONE_THREAD, 0);
    scmp_filter_ctx filter = begin(SCMP_ACT_ALLOW);
    add(filter, SCMP_ACT_ERRNO(EPERM), CALL(fork), 0, NULL);
    add(filter, SCMP_ACT_ERRNO(EPERM), CALL(vfork), 0, NULL);
    add(filter, SCMP_ACT_ERRNO(EPERM), CALL(clone), 1, &process);
    return filter;
}

static scmp_filter_ctx no_program(void) {
    scmp_filter_ctx filter = begin(SCMP_ACT_ALLOW);
    add(filter, SCMP_ACT_ERRNO(EPERM), CALL(execve), 0, NULL);
    return filter;
}

static void print_filter(FILE *out, const char *name, scmp_filter_ctx filter) {
    static struct sock_filter program[MAX_INSTRUCTIONS];
    size_t count = export_filter(filter, program);
    fprintf(out, "static const struct sock_filter %s[] = {\n", name);
    print_program(out, program, count);
    fprintf(out, "};\n\n");
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: unpack_policy HEADER\n");
        return 2;
    }
    FILE *out = fopen(argv[1], "w");
    if (!out)
        die(argv[1], errno);
    fprintf(out, "/* Generated by unpack_policy.c; see there. */\n#include <linux/filter.h>\n\n");
    print_filter(out, "sbx_unpack_base", base());
    print_filter(out, "sbx_unpack_no_process", no_process());
    print_filter(out, "sbx_unpack_no_program", no_program());
    if (fclose(out))
        die(argv[1], errno);
    return 0;
}
