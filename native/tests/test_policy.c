/*
 * The seccomp policy, twice: every call number through an interpreter of the filter (so that even
 * reboot can be tried), and harmless calls through the kernel, in a child that loaded it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "seccomp_policy.h"
#include "test.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define FOREIGN_ARCH AUDIT_ARCH_I386
#else
#define ARCH AUDIT_ARCH_AARCH64
#define FOREIGN_ARCH AUDIT_ARCH_ARM
#endif

enum {
    POLICY_LENGTH = sizeof sbx_policy / sizeof *sbx_policy,
    NEWEST = 469,
    X32 = 0x40000000,
    SCHED_CLASS_EXT = 7, /* SCHED_EXT of Linux 6.12 */
    FLOW_LABEL_MANAGER = 32,
};

#define GARBAGE 0xdeadbeef00000000ull

/* ---- an interpreter of the few instructions the policy consists of ---- */

static uint32_t load(const struct seccomp_data *data, uint32_t offset) {
    uint32_t value;
    REQUIRE(offset % 4 == 0 && offset + sizeof value <= sizeof *data);
    memcpy(&value, (const char *)data + offset, sizeof value);
    return value;
}

static uint32_t interpret(const struct seccomp_data *data) {
    uint32_t a = 0;
    for (size_t pc = 0; pc < POLICY_LENGTH; pc++) {
        const struct sock_filter *i = &sbx_policy[pc];
        bool taken;
        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            a = load(data, i->k);
            continue;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            continue;
        case BPF_RET | BPF_K:
            return i->k;
        case BPF_JMP | BPF_JA:
            pc += i->k;
            continue;
        case BPF_JMP | BPF_JEQ | BPF_K:
            taken = a == i->k;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            taken = a > i->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            taken = a >= i->k;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            taken = a & i->k;
            break;
        default:
            REQUIRE(!"an instruction this interpreter does not know");
            return 0;
        }
        pc += taken ? i->jt : i->jf;
    }
    REQUIRE(!"the policy ends without a return");
    return 0;
}

/* The errno with which a call is denied, 0 where it is allowed, -1 for any other action. */
static int verdict_of(const struct seccomp_data *data) {
    uint32_t action = interpret(data);
    if (action == SECCOMP_RET_ALLOW)
        return 0;
    return (action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO
               ? (int)(action & SECCOMP_RET_DATA)
               : -1;
}

static int verdict(uint32_t arch, long number, uint64_t a, uint64_t b, uint64_t c) {
    const struct seccomp_data data = {.nr = (int)number, .arch = arch, .args = {a, b, c}};
    return verdict_of(&data);
}

/* ---- what must be denied, by the kernel headers' names, not by libseccomp's ---- */

static const struct {
    long number;
    int error;
} denied[] = {
    {SYS_mount, EPERM},
    {SYS_umount2, EPERM},
    {SYS_pivot_root, EPERM},
    {SYS_move_mount, EPERM},
    {SYS_open_tree, EPERM},
    {SYS_fsopen, EPERM},
    {SYS_fsconfig, EPERM},
    {SYS_fsmount, EPERM},
    {SYS_fspick, EPERM},
    {SYS_mount_setattr, EPERM},
    {457 /* statmount */, ENOSYS},
    {458 /* listmount */, ENOSYS},
    {467 /* open_tree_attr */, EPERM},
    {SYS_chroot, EPERM},
    {SYS_open_by_handle_at, EPERM},
    {SYS_name_to_handle_at, EPERM},
    {SYS_fanotify_init, EPERM},
    {SYS_fanotify_mark, EPERM},
    {SYS_quotactl, EPERM},
    {SYS_quotactl_fd, EPERM},
    {SYS_unshare, EPERM},
    {SYS_setns, EPERM},
    {SYS_clone3, ENOSYS},
    {SYS_ptrace, EPERM},
    {SYS_process_vm_readv, EPERM},
    {SYS_process_vm_writev, EPERM},
    {SYS_process_madvise, EPERM},
    {SYS_kcmp, EPERM},
    {SYS_pidfd_getfd, EPERM},
    {SYS_bpf, EPERM},
    {SYS_perf_event_open, EPERM},
    {SYS_userfaultfd, EPERM},
    {SYS_io_uring_setup, ENOSYS},
    {SYS_io_uring_enter, ENOSYS},
    {SYS_io_uring_register, ENOSYS},
    {SYS_memfd_secret, ENOSYS},
    {SYS_lookup_dcookie, EPERM},
    {SYS_add_key, EPERM},
    {SYS_keyctl, EPERM},
    {SYS_request_key, EPERM},
    {SYS_io_setup, ENOSYS},
    {SYS_mq_open, ENOSYS},
    {SYS_mq_unlink, ENOSYS},
    {SYS_mq_timedsend, ENOSYS},
    {SYS_mq_timedreceive, ENOSYS},
    {SYS_mq_notify, ENOSYS},
    {SYS_mq_getsetattr, ENOSYS},
    {SYS_inotify_init1, ENOSYS},
    {SYS_inotify_add_watch, ENOSYS},
    {451 /* cachestat */, ENOSYS},
    {SYS_sched_setattr, EPERM},
    {SYS_setpriority, EPERM},
    {SYS_ioprio_set, EPERM},
    {SYS_reboot, EPERM},
    {SYS_kexec_load, EPERM},
    {SYS_kexec_file_load, EPERM},
    {SYS_init_module, EPERM},
    {SYS_finit_module, EPERM},
    {SYS_delete_module, EPERM},
    {SYS_swapon, EPERM},
    {SYS_swapoff, EPERM},
    {SYS_acct, EPERM},
    {SYS_sethostname, EPERM},
    {SYS_setdomainname, EPERM},
    {SYS_settimeofday, EPERM},
    {SYS_clock_settime, EPERM},
    {SYS_clock_adjtime, EPERM},
    {SYS_adjtimex, EPERM},
    {SYS_vhangup, EPERM},
    {SYS_syslog, EPERM},
    {SYS_nfsservctl, EPERM},
#ifdef __x86_64__
    {SYS_inotify_init, ENOSYS},
    {SYS_iopl, EPERM},
    {SYS_ioperm, EPERM},
    {SYS_modify_ldt, EPERM},
    {SYS_create_module, EPERM},
    {SYS_query_module, EPERM},
    {SYS_get_kernel_syms, EPERM},
    {SYS__sysctl, EPERM},
    {SYS_uselib, EPERM},
    {SYS_ustat, EPERM},
    {SYS_sysfs, EPERM},
#endif
    /* With all arguments 0, these two are asked for AF_UNSPEC. */
    {SYS_socket, EAFNOSUPPORT},
    {SYS_socketpair, EAFNOSUPPORT},
};

static int expected_error(long number) {
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
        if (denied[i].number == number)
            return denied[i].error;
    return number > NEWEST ? ENOSYS : 0;
}

static void every_call_number_has_its_verdict(void) {
    for (long number = 0; number < 2048; number++)
        if (verdict(ARCH, number, 0, 0, 0) != expected_error(number)) {
            printf("call %ld: ", number);
            CHECK_EQ(verdict(ARCH, number, 0, 0, 0), expected_error(number));
        }
}

static void another_architecture_can_call_nothing(void) {
    for (long number = 0; number < 2048; number++)
        CHECK_EQ(verdict(FOREIGN_ARCH, number, 0, 0, 0), EPERM);
    CHECK_EQ(verdict(0, SYS_getpid, 0, 0, 0), EPERM);
}

static void x32_can_call_nothing(void) {
    for (long number = 0; number < 2048; number++)
        CHECK_EQ(verdict(ARCH, number | X32, 0, 0, 0), ENOSYS);
    CHECK_EQ(verdict(ARCH, -1, 0, 0, 0), ENOSYS);
}

static int socket_verdict(uint64_t family, uint64_t type, uint64_t protocol) {
    int plain = verdict(ARCH, SYS_socket, family, type, protocol);
    /* The kernel takes three ints: what stands in the high halves must change nothing. */
    CHECK_EQ(verdict(ARCH, SYS_socket, family | GARBAGE, type | GARBAGE, protocol | GARBAGE),
             plain);
    return plain;
}

static void sockets_are_unix_and_plain_internet(void) {
    for (uint64_t family = 0; family < 300; family++) {
        bool internet = family == AF_INET || family == AF_INET6;
        bool known = internet || family == AF_UNIX;
        CHECK_EQ(socket_verdict(family, SOCK_STREAM | SOCK_CLOEXEC, 0), known ? 0 : EAFNOSUPPORT);
        CHECK_EQ(socket_verdict(family, SOCK_SEQPACKET, 0), family == AF_UNIX ? 0
                                                            : internet        ? EPERM
                                                                              : EAFNOSUPPORT);
    }
    CHECK_EQ(socket_verdict(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDP), 0);
    CHECK_EQ(socket_verdict(AF_INET6, SOCK_STREAM, IPPROTO_TCP), 0);
    CHECK_EQ(socket_verdict(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6), 0);
    CHECK_EQ(socket_verdict(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
    CHECK_EQ(socket_verdict(AF_INET, SOCK_DCCP, 0), EPERM);
    CHECK_EQ(socket_verdict(AF_INET, SOCK_STREAM, IPPROTO_SCTP), EPROTONOSUPPORT);
    CHECK_EQ(socket_verdict(AF_INET, SOCK_STREAM, IPPROTO_MPTCP), EPROTONOSUPPORT);
    CHECK_EQ(socket_verdict(0xffffffff, SOCK_STREAM, 0), EAFNOSUPPORT);
}

static void socket_pairs_are_unix(void) {
    for (uint64_t family = 0; family < 300; family++) {
        int expected = family == AF_UNIX ? 0 : EAFNOSUPPORT;
        CHECK_EQ(verdict(ARCH, SYS_socketpair, family, SOCK_STREAM, 0), expected);
        CHECK_EQ(verdict(ARCH, SYS_socketpair, family | GARBAGE, SOCK_STREAM, 0), expected);
    }
}

static void clone_makes_no_namespace(void) {
    static const uint64_t kinds[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                     CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
    uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                      CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        CHECK_EQ(verdict(ARCH, SYS_clone, kinds[i], 0, 0), EPERM);
        CHECK_EQ(verdict(ARCH, SYS_clone, kinds[i] | SIGCHLD | CLONE_VM, 0, 0), EPERM);
        CHECK_EQ(verdict(ARCH, SYS_clone, kinds[i] | GARBAGE, 0, 0), EPERM);
    }
    CHECK_EQ(verdict(ARCH, SYS_clone, SIGCHLD, 0, 0), 0);
    CHECK_EQ(verdict(ARCH, SYS_clone, SIGCHLD | CLONE_VM | CLONE_VFORK, 0, 0), 0);
    CHECK_EQ(verdict(ARCH, SYS_clone, thread, 0, 0), 0);
}

static void terminals_cannot_be_fed_and_modules_not_loaded(void) {
    static const struct {
        uint64_t request;
        int error;
    } cases[] = {{TIOCSTI, EPERM},     {TIOCLINUX, EPERM},   {TIOCSETD, EPERM},
                 {SIOCGIFBR, EPERM},   {SIOCSIFBR, EPERM},   {SIOCBRADDBR, EPERM},
                 {SIOCBRDELBR, EPERM}, {SIOCGIFVLAN, EPERM}, {SIOCSIFVLAN, EPERM},
                 {TIOCSCTTY, 0},       {TCGETS, 0},          {TIOCGWINSZ, 0},
                 {FIONREAD, 0},        {SIOCGIFCONF, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(verdict(ARCH, SYS_ioctl, 0, cases[i].request, 0), cases[i].error);
        CHECK_EQ(verdict(ARCH, SYS_ioctl, 0, cases[i].request | GARBAGE, 0), cases[i].error);
    }
}

static void core_files_stay_off_and_neighbours_undisturbed(void) {
    const uint64_t pointer = 0x7ffe00001000;
    CHECK_EQ(verdict(ARCH, SYS_prlimit64, 0, RLIMIT_CORE, pointer), EPERM);
    CHECK_EQ(verdict(ARCH, SYS_prlimit64, 0, RLIMIT_CORE | GARBAGE, pointer), EPERM);
    CHECK_EQ(verdict(ARCH, SYS_prlimit64, 0, RLIMIT_CORE, 1ull << 32), EPERM);
    CHECK_EQ(verdict(ARCH, SYS_prlimit64, 0, RLIMIT_CORE, 0), 0);
    CHECK_EQ(verdict(ARCH, SYS_prlimit64, 0, RLIMIT_NOFILE, pointer), 0);
    CHECK_EQ(verdict(ARCH, SYS_setrlimit, RLIMIT_CORE | GARBAGE, pointer, 0), EPERM);
    CHECK_EQ(verdict(ARCH, SYS_setrlimit, RLIMIT_NOFILE, pointer, 0), 0);
    CHECK_EQ(verdict(ARCH, SYS_fcntl, 0, F_NOTIFY | GARBAGE, 0), EPERM);
    CHECK_EQ(verdict(ARCH, SYS_fcntl, 0, F_GETFL, 0), 0);
    CHECK_EQ(verdict(ARCH, SYS_prctl, PR_SCHED_CORE | GARBAGE, 0, 0), EPERM);
    CHECK_EQ(verdict(ARCH, SYS_prctl, PR_SET_NAME, 0, 0), 0);
}

static void personality_is_the_default_one(void) {
    static const struct {
        uint64_t value;
        int error;
    } cases[] = {{0, 0},
                 {0xffffffff, 0},
                 {ADDR_NO_RANDOMIZE, 0},
                 {READ_IMPLIES_EXEC, EPERM},
                 {ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC, EPERM},
                 {PER_LINUX32, EPERM},
                 {MMAP_PAGE_ZERO, EPERM}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(verdict(ARCH, SYS_personality, cases[i].value, 0, 0), cases[i].error);
        CHECK_EQ(verdict(ARCH, SYS_personality, cases[i].value | GARBAGE, 0, 0), cases[i].error);
    }
}

static void no_listener(void) {
    CHECK_EQ(verdict(ARCH, SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 0), 0);
    CHECK_EQ(
        verdict(ARCH, SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0),
        EPERM);
    CHECK_EQ(verdict(ARCH, SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                     GARBAGE | SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC, 0),
             EPERM);
}

static int mmap_verdict(uint64_t flags) {
    const struct seccomp_data data = {
        .nr = SYS_mmap, .arch = ARCH, .args = {0, 1 << 21, PROT_READ, flags}};
    return verdict_of(&data);
}

static void no_huge_pages_of_the_host(void) {
    const uint64_t usual = MAP_PRIVATE | MAP_ANONYMOUS, gigabytes = 30 << MAP_HUGE_SHIFT;
    CHECK_EQ(mmap_verdict(usual | MAP_HUGETLB), EPERM);
    CHECK_EQ(mmap_verdict(usual | MAP_HUGETLB | gigabytes | GARBAGE), EPERM);
    CHECK_EQ(mmap_verdict(usual | MAP_NORESERVE | MAP_STACK | MAP_FIXED_NOREPLACE), 0);
    CHECK_EQ(mmap_verdict(~(uint64_t)MAP_HUGETLB), 0);
    CHECK_EQ(verdict(ARCH, SYS_memfd_create, 0, MFD_CLOEXEC | MFD_HUGETLB | GARBAGE, 0), EPERM);
    CHECK_EQ(verdict(ARCH, SYS_memfd_create, 0, MFD_CLOEXEC | MFD_ALLOW_SEALING, 0), 0);
    CHECK_EQ(verdict(ARCH, SYS_shmget, 0, 0, IPC_CREAT | SHM_HUGETLB | GARBAGE), EPERM);
    CHECK_EQ(verdict(ARCH, SYS_shmget, 0, 0, IPC_CREAT | SHM_NORESERVE | 0600), 0);
    CHECK_EQ(verdict(ARCH, SYS_madvise, 0, 0, MADV_HUGEPAGE), 0);
}

static void no_flow_labels(void) {
    for (uint64_t level = 0; level < 300; level++)
        for (uint64_t option = 0; option < 100; option++) {
            int expected = level == IPPROTO_IPV6 && option == FLOW_LABEL_MANAGER ? EPERM : 0;
            CHECK_EQ(verdict(ARCH, SYS_setsockopt, 0, level, option), expected);
            CHECK_EQ(verdict(ARCH, SYS_setsockopt, 0, level | GARBAGE, option | GARBAGE), expected);
            CHECK_EQ(verdict(ARCH, SYS_getsockopt, 0, level, option), 0);
        }
}

static void only_the_usual_schedulers(void) {
    static const struct {
        uint64_t policy;
        int error;
    } cases[] = {{SCHED_OTHER, 0},        {SCHED_BATCH, 0},        {SCHED_FIFO, EPERM},
                 {SCHED_RR, EPERM},       {SCHED_DEADLINE, EPERM}, {SCHED_IDLE, EPERM},
                 {SCHED_CLASS_EXT, EPERM}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t policy = cases[i].policy;
        CHECK_EQ(verdict(ARCH, SYS_sched_setscheduler, 0, policy, 0), cases[i].error);
        CHECK_EQ(verdict(ARCH, SYS_sched_setscheduler, 0, policy | GARBAGE, 0), cases[i].error);
        CHECK_EQ(verdict(ARCH, SYS_sched_setscheduler, 0, policy | SCHED_RESET_ON_FORK, 0),
                 cases[i].error);
    }
    CHECK_EQ(verdict(ARCH, SYS_sched_setparam, 0, 0, 0), 0);
    CHECK_EQ(verdict(ARCH, SYS_getpriority, 0, 0, 0), 0);
    CHECK_EQ(verdict(ARCH, SYS_ioprio_get, 0, 0, 0), 0);
}

/* ---- the same in the kernel ---- */

static int load_policy(void) {
    const struct sock_fprog program = {POLICY_LENGTH, (struct sock_filter *)sbx_policy};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

struct attempt {
    long number, a, b, c;
};

/* Makes the call in a child, filtered or not, and returns its errno or 0. The child ends at once,
 * so descriptors and new sessions do not matter. */
static int attempt_in_child(const struct attempt *attempt, bool filtered) {
    int status = 0;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        if (filtered && load_policy() < 0)
            _exit(255);
        long result = syscall(attempt->number, attempt->a, attempt->b, attempt->c, 0, 0, 0);
        _exit(result < 0 ? errno : 0);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Harmless with these arguments even without a filter, and then root must get another answer: else
 * the test would not see a filter that does nothing. */
static void the_kernel_denies(void) {
    const long garbage = (long)GARBAGE;
    const struct {
        struct attempt attempt;
        int error;
    } cases[] = {
        {{SYS_unshare, 0, 0, 0}, EPERM},
        {{SYS_mount, 0, 0, 0}, EPERM},
        {{SYS_fsopen, 0, 0, 0}, EPERM},
        {{SYS_open_tree, -1, 0, 0}, EPERM},
        {{467, -1, 0, 0}, EPERM},
        {{SYS_setns, -1, 0, 0}, EPERM},
        {{SYS_clone3, 0, 0, 0}, ENOSYS},
        {{SYS_io_uring_setup, 1, 0, 0}, ENOSYS},
        {{SYS_keyctl, -1, 0, 0}, EPERM},
        {{SYS_setpriority, PRIO_PROCESS, 0, 0}, EPERM},
        {{SYS_sched_setscheduler, 0, SCHED_IDLE, 0}, EPERM},
        {{SYS_memfd_create, 0, MFD_HUGETLB, 0}, EPERM},
        {{SYS_setsockopt, -1, IPPROTO_IPV6 | garbage, FLOW_LABEL_MANAGER | garbage}, EPERM},
        {{SYS_bpf, -1, 0, 0}, EPERM},
        {{SYS_socket, AF_NETLINK, SOCK_RAW, 0}, EAFNOSUPPORT},
        {{SYS_socket, AF_NETLINK | garbage, SOCK_RAW, 0}, EAFNOSUPPORT},
        {{SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMPV6}, EPERM},
        {{SYS_socketpair, AF_INET, SOCK_STREAM, 0}, EAFNOSUPPORT},
        {{SYS_ioctl, -1, TIOCSTI, 0}, EPERM},
        {{SYS_ioctl, -1, TIOCSTI | garbage, 0}, EPERM},
        {{SYS_ioctl, -1, TIOCLINUX | garbage, 0}, EPERM},
        {{SYS_personality, READ_IMPLIES_EXEC, 0, 0}, EPERM},
        {{SYS_clone, CLONE_NEWUSER | CLONE_FS, 0, 0}, EPERM},
        {{SYS_clone, CLONE_NEWUSER | CLONE_FS | garbage, 0, 0}, EPERM},
#ifdef __x86_64__
        {{SYS_modify_ldt, 0, 0, 0}, EPERM},
        {{SYS_uselib, 0, 0, 0}, EPERM},
#endif
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int filtered = attempt_in_child(&cases[i].attempt, true);
        int plain = geteuid() ? 0 : attempt_in_child(&cases[i].attempt, false);
        if (filtered != cases[i].error || plain == filtered)
            printf("case %zu, call %ld: ", i, cases[i].attempt.number);
        CHECK_EQ(filtered, cases[i].error);
        CHECK(plain != filtered);
    }
}

/* What init and a job need: the kernel's own answer, whatever it is. */
static void the_kernel_allows(void) {
    const long garbage = (long)GARBAGE;
    const struct attempt attempts[] = {
        {SYS_getpid, 0, 0, 0},
        {SYS_setresuid, -1, -1, -1},
        {SYS_setresgid, -1, -1, -1},
        {SYS_setgroups, -1, 0, 0},
        {SYS_kill, 0, 0, 0},
        {SYS_waitid, P_ALL, 0, 0},
        {SYS_unlinkat, -1, 0, 0},
        {SYS_openat2, -1, 0, 0},
        {SYS_fchmod, -1, 0, 0},
        {SYS_pidfd_send_signal, -1, 0, 0},
        {SYS_sendmsg, -1, 0, 0},
        {SYS_prctl, PR_GET_DUMPABLE, 0, 0},
        {SYS_ioctl, -1, TIOCSCTTY, 0},
        {SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0},
        {SYS_socket, AF_INET, SOCK_STREAM, 0},
        {SYS_socket, AF_INET | garbage, SOCK_STREAM | garbage, 0},
        {SYS_personality, 0xffffffff, 0, 0},
        {SYS_sched_setscheduler, 0, SCHED_BATCH, 0},
        {SYS_sched_setparam, 0, 0, 0},
        {SYS_setsockopt, -1, IPPROTO_IPV6, IPV6_V6ONLY},
        {SYS_landlock_create_ruleset, 0, 0, 1},
        {SYS_clone, SIGCHLD, 0, 0},
    };
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        int plain = attempt_in_child(&attempts[i], false);
        int filtered = attempt_in_child(&attempts[i], true);
        if (filtered != plain)
            printf("attempt %zu, call %ld: ", i, attempts[i].number);
        CHECK_EQ(filtered, plain);
    }
}

#ifdef __x86_64__
/* A job's way to i386: getpid, 20 there, must be denied; on 64 bits 20 is writev. */
static void int_0x80_is_denied(void) {
    int status = 0;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        int result = 20;
        if (load_policy() < 0)
            _exit(255);
        __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
        _exit(result == -EPERM ? 0 : 1);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    /* A kernel without IA32 emulation sends SIGSEGV: there is no such way at all. */
    CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
}

static void x32_is_denied_by_the_kernel(void) {
    const struct attempt attempt = {SYS_getpid | X32, 0, 0, 0};
    CHECK_EQ(attempt_in_child(&attempt, true), ENOSYS);
}
#else
static void int_0x80_is_denied(void) {}
static void x32_is_denied_by_the_kernel(void) {}
#endif

TEST_MAIN(TEST(every_call_number_has_its_verdict), TEST(another_architecture_can_call_nothing),
          TEST(x32_can_call_nothing), TEST(sockets_are_unix_and_plain_internet),
          TEST(socket_pairs_are_unix), TEST(clone_makes_no_namespace),
          TEST(terminals_cannot_be_fed_and_modules_not_loaded),
          TEST(core_files_stay_off_and_neighbours_undisturbed),
          TEST(personality_is_the_default_one), TEST(no_listener), TEST(only_the_usual_schedulers),
          TEST(no_huge_pages_of_the_host), TEST(no_flow_labels), TEST(the_kernel_denies),
          TEST(the_kernel_allows), TEST(int_0x80_is_denied), TEST(x32_is_denied_by_the_kernel))
