/*
 * Writes the seccomp policy of jobs as a C header: a build-time program.
 *
 * Theory of operation. The policy is a deny list, because an allow list breaks with each new C
 * library; what is denied fails with an errno and the program goes on. libseccomp compiles the
 * table of denied calls and the masked argument compares to a binary tree. In front of it stands a
 * prologue written by hand, for what a deny list of libseccomp cannot say: "another architecture",
 * "newer than this policy" and "none of these values". All compares look at the low 32 bits only,
 * where the kernel takes an int: garbage in the high half must not dodge a rule (CVE-2019-10063).
 *
 * A call that the C library can do without is denied with ENOSYS, so that it falls back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>

#include "emit.h"

#if defined(__x86_64__)
#define NATIVE_AUDIT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_AUDIT_ARCH AUDIT_ARCH_AARCH64
#else
#error "the seccomp policy was reviewed for x86-64 and aarch64 only"
#endif

enum {
    /* The newest call this policy was reviewed for, file_setattr of Linux 6.17. From 424 on all
     * architectures share the numbers, so calls that libseccomp 2.5 has no name for stand below
     * by number. */
    NEWEST_REVIEWED = 469,
    NR_CACHESTAT = 451,
    NR_STATMOUNT = 457,
    NR_LISTMOUNT = 458,
    NR_OPEN_TREE_ATTR = 467,
    SOCKET_TYPE_MASK = 0xf,  /* SOCK_TYPE_MASK of the kernel; above it are SOCK_CLOEXEC and so on */
    SCHED_CLASS_EXT = 7,     /* SCHED_EXT of Linux 6.12 */
    FLOW_LABEL_MANAGER = 32, /* IPV6_FLOWLABEL_MGR of <linux/in6.h>, which libc's headers exclude */
};

struct denied {
    int number; /* negative: libseccomp's number for a call this architecture does not have */
    int error;
};

#define DENY(name, error) {SCMP_SYS(name), error}

static const struct denied denied_calls[] = {
    /* Mounts and roots. */
    DENY(mount, EPERM),
    DENY(umount2, EPERM),
    DENY(umount, EPERM),
    DENY(pivot_root, EPERM),
    DENY(move_mount, EPERM),
    DENY(open_tree, EPERM),
    DENY(fsopen, EPERM),
    DENY(fsconfig, EPERM),
    DENY(fsmount, EPERM),
    DENY(fspick, EPERM),
    DENY(mount_setattr, EPERM),
    {NR_OPEN_TREE_ATTR, EPERM},
    {NR_STATMOUNT, ENOSYS},
    {NR_LISTMOUNT, ENOSYS},
    DENY(chroot, EPERM),
    DENY(open_by_handle_at, EPERM),
    DENY(name_to_handle_at, EPERM),
    DENY(fanotify_init, EPERM),
    DENY(fanotify_mark, EPERM),
    DENY(quotactl, EPERM),
    DENY(quotactl_fd, EPERM),
    /* Namespaces; clone's flags are looked at below, those of clone3 cannot be. */
    DENY(unshare, EPERM),
    DENY(setns, EPERM),
    DENY(clone3, ENOSYS),
    /* Other processes. */
    DENY(ptrace, EPERM),
    DENY(process_vm_readv, EPERM),
    DENY(process_vm_writev, EPERM),
    DENY(process_madvise, EPERM),
    DENY(kcmp, EPERM),
    DENY(pidfd_getfd, EPERM),
    /* Interfaces with a long list of kernel bugs, or that bypass this filter. */
    DENY(bpf, EPERM),
    DENY(perf_event_open, EPERM),
    DENY(userfaultfd, EPERM),
    DENY(io_uring_setup, ENOSYS),
    DENY(io_uring_enter, ENOSYS),
    DENY(io_uring_register, ENOSYS),
    DENY(memfd_secret, ENOSYS),
    DENY(lookup_dcookie, EPERM),
    /* Shared by the whole machine: keyrings, the system-wide count of AIO requests. */
    DENY(add_key, EPERM),
    DENY(keyctl, EPERM),
    DENY(request_key, EPERM),
    DENY(io_setup, ENOSYS),
    DENY(mq_open, ENOSYS),
    DENY(mq_unlink, ENOSYS),
    DENY(mq_timedsend, ENOSYS),
    DENY(mq_timedreceive, ENOSYS),
    DENY(mq_notify, ENOSYS),
    DENY(mq_getsetattr, ENOSYS),
    /* Marks and cache are the inode's: through /usr they would show what others run, and when. */
    DENY(inotify_init, ENOSYS),
    DENY(inotify_init1, ENOSYS),
    DENY(inotify_add_watch, ENOSYS),
    {NR_CACHESTAT, ENOSYS},
    /* Would wait for the whole machine's disks. A job's own files are in memory: nothing to do. */
    DENY(sync, 0),
    DENY(syncfs, 0),
    /* Less processor: see SCHED_IDLE below. A request for more would fail in any case. */
    DENY(sched_setattr, EPERM),
    DENY(setpriority, EPERM),
    DENY(ioprio_set, EPERM),
    /* The administrator's. */
    DENY(reboot, EPERM),
    DENY(kexec_load, EPERM),
    DENY(kexec_file_load, EPERM),
    DENY(init_module, EPERM),
    DENY(finit_module, EPERM),
    DENY(delete_module, EPERM),
    DENY(create_module, EPERM),
    DENY(query_module, EPERM),
    DENY(get_kernel_syms, EPERM),
    DENY(swapon, EPERM),
    DENY(swapoff, EPERM),
    DENY(acct, EPERM),
    DENY(sethostname, EPERM),
    DENY(setdomainname, EPERM),
    DENY(settimeofday, EPERM),
    DENY(stime, EPERM),
    DENY(clock_settime, EPERM),
    DENY(clock_adjtime, EPERM),
    DENY(adjtimex, EPERM),
    DENY(vhangup, EPERM),
    DENY(syslog, EPERM),
    DENY(iopl, EPERM),
    DENY(ioperm, EPERM),
    DENY(modify_ldt, EPERM),
    DENY(vm86, EPERM),
    DENY(vm86old, EPERM),
    /* Obsolete. */
    DENY(_sysctl, EPERM),
    DENY(nfsservctl, EPERM),
    DENY(uselib, EPERM),
    DENY(ustat, EPERM),
    DENY(sysfs, EPERM),
};

/* Calls denied when the low 32 bits of one argument, masked, have a value. */
struct denied_argument {
    int number;
    unsigned index;
    unsigned mask;
    unsigned value;
};

#define DENY_BIT(name, index, bit) {SCMP_SYS(name), index, bit, bit}
#define DENY_VALUE(name, index, value) {SCMP_SYS(name), index, 0xffffffff, value}
#define DENY_POLICY(name, value) {SCMP_SYS(name), 1, ~(unsigned)SCHED_RESET_ON_FORK, value}

static const struct denied_argument denied_arguments[] = {
    DENY_BIT(clone, 0, CLONE_NEWNS),
    DENY_BIT(clone, 0, CLONE_NEWCGROUP),
    DENY_BIT(clone, 0, CLONE_NEWUTS),
    DENY_BIT(clone, 0, CLONE_NEWIPC),
    DENY_BIT(clone, 0, CLONE_NEWUSER),
    DENY_BIT(clone, 0, CLONE_NEWPID),
    DENY_BIT(clone, 0, CLONE_NEWNET),
    DENY_VALUE(ioctl, 1, TIOCSTI),
    DENY_VALUE(ioctl, 1, TIOCLINUX),
    /* These load kernel modules before they look at capabilities. */
    DENY_VALUE(ioctl, 1, TIOCSETD),
    DENY_VALUE(ioctl, 1, SIOCGIFBR),
    DENY_VALUE(ioctl, 1, SIOCSIFBR),
    DENY_VALUE(ioctl, 1, SIOCBRADDBR),
    DENY_VALUE(ioctl, 1, SIOCBRDELBR),
    DENY_VALUE(ioctl, 1, SIOCGIFVLAN),
    DENY_VALUE(ioctl, 1, SIOCSIFVLAN),
    DENY_VALUE(fcntl, 1, F_NOTIFY),        /* as inotify */
    DENY_VALUE(prctl, 0, PR_SCHED_CORE),   /* would idle the neighbour's hardware thread */
    DENY_VALUE(setrlimit, 0, RLIMIT_CORE), /* see deny_core_limit() */
    /* Huge pages that the administrator has set aside: charged to no memory cgroup. */
    DENY_BIT(mmap, 3, MAP_HUGETLB),
    DENY_BIT(memfd_create, 1, MFD_HUGETLB),
    DENY_BIT(shmget, 2, SHM_HUGETLB),
    DENY_BIT(seccomp, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER),
    DENY_POLICY(sched_setscheduler, SCHED_FIFO),
    DENY_POLICY(sched_setscheduler, SCHED_RR),
    DENY_POLICY(sched_setscheduler, SCHED_DEADLINE),
    /* A thread that a job's own other threads starve keeps for seconds what it has locked in the
     * kernel, and whoever needs that lock, on the whole machine, waits as long. SCHED_EXT is below
     * the usual class, too, where a scheduler is loaded for some threads only. */
    DENY_POLICY(sched_setscheduler, SCHED_IDLE),
    DENY_POLICY(sched_setscheduler, SCHED_CLASS_EXT),
};

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
/* The low half of an argument: both architectures are little-endian. */
#define LOAD_ARGUMENT(index) LOAD(args[index])
#define AND(mask) BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask)
#define SKIP_IF(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, count, 0)
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)
#define SKIP_UNLESS_ABOVE(value, count) BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, value, 0, count)
#define FAIL(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Each block that is entered returns, and begins with a fresh load. */
static const struct sock_filter prologue[] = {
    /* Another architecture: i386 through int 0x80, 32-bit ARM. */
    LOAD(arch),
    SKIP_IF(NATIVE_AUDIT_ARCH, 1),
    FAIL(EPERM),
    /* Newer than this policy; x32 too, whose numbers have bit 30 set. */
    LOAD(nr),
    SKIP_UNLESS_ABOVE(NEWEST_REVIEWED, 1),
    FAIL(ENOSYS),
    /* Sockets: Unix; IPv4 and IPv6 streams and datagrams of the protocols every program knows.
     * Any other family or protocol could make the kernel load a module nobody uses. */
    SKIP_UNLESS(SCMP_SYS(socket), 18),
    LOAD_ARGUMENT(0),
    SKIP_IF(AF_UNIX, 15),
    SKIP_IF(AF_INET, 2),
    SKIP_IF(AF_INET6, 1),
    FAIL(EAFNOSUPPORT),
    LOAD_ARGUMENT(1),
    AND(SOCKET_TYPE_MASK),
    SKIP_IF(SOCK_STREAM, 2),
    SKIP_IF(SOCK_DGRAM, 1),
    FAIL(EPERM),
    LOAD_ARGUMENT(2),
    SKIP_IF(0, 5),
    SKIP_IF(IPPROTO_TCP, 4),
    SKIP_IF(IPPROTO_UDP, 3),
    SKIP_IF(IPPROTO_ICMP, 2),
    SKIP_IF(IPPROTO_ICMPV6, 1),
    FAIL(EPROTONOSUPPORT),
    ALLOW,
    LOAD(nr),
    SKIP_UNLESS(SCMP_SYS(socketpair), 4),
    LOAD_ARGUMENT(0),
    SKIP_IF(AF_UNIX, 1),
    FAIL(EAFNOSUPPORT),
    ALLOW,
    /* personality: asking for it, the default, and a fixed address layout (for debuggers). */
    LOAD(nr),
    SKIP_UNLESS(SCMP_SYS(personality), 6),
    LOAD_ARGUMENT(0),
    SKIP_IF(0xffffffff, 3),
    SKIP_IF(0, 2),
    SKIP_IF(ADDR_NO_RANDOMIZE, 1),
    FAIL(EPERM),
    ALLOW,
};

static void deny_calls(scmp_filter_ctx filter) {
    for (size_t i = 0; i < sizeof denied_calls / sizeof *denied_calls; i++) {
        const struct denied *d = &denied_calls[i];
        if (d->number < 0)
            continue; /* Not a call of this architecture; the name is checked by the compiler. */
        int error =
            seccomp_rule_add_exact(filter, SCMP_ACT_ERRNO((unsigned)d->error), d->number, 0);
        if (error)
            die("cannot deny a call", -error);
    }
}

static void deny_arguments(scmp_filter_ctx filter) {
    for (size_t i = 0; i < sizeof denied_arguments / sizeof *denied_arguments; i++) {
        const struct denied_argument *d = &denied_arguments[i];
        struct scmp_arg_cmp compare = SCMP_CMP64(d->index, SCMP_CMP_MASKED_EQ, d->mask, d->value);
        int error =
            seccomp_rule_add_exact_array(filter, SCMP_ACT_ERRNO(EPERM), d->number, 1, &compare);
        if (error)
            die("cannot deny an argument", -error);
    }
}

#define LOW_HALF_IS(index, value) SCMP_CMP64(index, SCMP_CMP_MASKED_EQ, 0xffffffff, value)

static void deny_both(scmp_filter_ctx filter, int number, const struct scmp_arg_cmp compare[2]) {
    int error = seccomp_rule_add_exact_array(filter, SCMP_ACT_ERRNO(EPERM), number, 2, compare);
    if (error)
        die("cannot deny two arguments", -error);
}

/* A core limit of 1 stops even a dump into a program (core(5)), a limit of 0 does not: so that a
 * job does not feed a process of the host's root, it may not change what init has set. */
static void deny_core_limit(scmp_filter_ctx filter) {
    const struct scmp_arg_cmp compare[2] = {LOW_HALF_IS(1, RLIMIT_CORE),
                                            SCMP_CMP64(2, SCMP_CMP_NE, 0)};
    deny_both(filter, SCMP_SYS(prlimit64), compare);
}

/* They stay in the network namespace for up to a minute after their last socket, and without an
 * interface, too: the next job in the slot would read them. */
static void deny_flow_labels(scmp_filter_ctx filter) {
    const struct scmp_arg_cmp compare[2] = {LOW_HALF_IS(1, IPPROTO_IPV6),
                                            LOW_HALF_IS(2, FLOW_LABEL_MANAGER)};
    deny_both(filter, SCMP_SYS(setsockopt), compare);
}

/* Returns the number of instructions that libseccomp made of the two tables. */
static size_t compile_tables(struct sock_filter *ret_program) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        die("cannot begin a filter", errno);
    /* 2 = a binary tree of call numbers. */
    int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (!error)
        error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
    if (error)
        die("cannot set the filter's attributes", -error);
    deny_calls(filter);
    deny_arguments(filter);
    deny_core_limit(filter);
    deny_flow_labels(filter);
    return export_filter(filter, ret_program);
}

int main(int argc, char **argv) {
    static struct sock_filter tables[MAX_INSTRUCTIONS];
    if (argc != 2) {
        fprintf(stderr, "usage: policy HEADER\n");
        return 2;
    }
    size_t count = compile_tables(tables);
    FILE *out = fopen(argv[1], "w");
    if (!out)
        die(argv[1], errno);
    fprintf(out, "/* Generated by policy.c; see there. */\n#include <linux/filter.h>\n\n"
                 "static const struct sock_filter sbx_policy[] = {\n");
    print_program(out, prologue, sizeof prologue / sizeof *prologue);
    print_program(out, tables, count);
    fprintf(out, "};\n");
    if (fclose(out))
        die(argv[1], errno);
    return 0;
}
