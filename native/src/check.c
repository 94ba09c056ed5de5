/*
 * sandbox-helper check: what this kernel lets the helper do, feature by feature.
 *
 * Theory of operation. Each feature is tried and not looked up: a child process makes the calls the
 * helper will make, and ends. It reports through a page it shares with the parent. One line for
 * each feature on stdout: name, ok or missing, required or optional, detail, hint, with tabs
 * between. Cgroups are not in here: sandboxd makes them, and checks them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "internal.h"
#include "seccomp_policy.h"

enum {
    /* Linux 5.12: mount_setattr, the last call the helper cannot do without. */
    KERNEL_MAJOR = 5,
    KERNEL_MINOR = 12,
};

/* What a trial found; shared with its child. */
struct finding {
    char detail[160];
    int error; /* 0, or an errno for the hint; -1: none of the errnos */
};

struct feature {
    const char *name;
    bool required;
    void (*try)(struct finding *finding);
    const char *hint;
};

__attribute__((format(printf, 2, 3))) static void tell(struct finding *finding, const char *format,
                                                       ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(finding->detail, sizeof finding->detail, format, arguments);
    va_end(arguments);
}

static void missing(struct finding *finding, const char *call) {
    finding->error = errno;
    tell(finding, "%s: %s", call, strerror(finding->error));
}

/* Notes the failure of a call and ends the trial. */
#define MUST(expression, call)                                                                     \
    do {                                                                                           \
        if ((expression) < 0) {                                                                    \
            missing(finding, call);                                                                \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* The first line of a small file, without its newline. Returns false where there is none. */
static bool read_line(const char *path, char *ret, size_t size) {
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret, size - 1);
    if (n < 0)
        return false;
    ret[n] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    return true;
}

static void try_kernel(struct finding *finding) {
    struct utsname name;
    MUST(uname(&name), "uname");
    char *end;
    long major = strtol(name.release, &end, 10);
    long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    tell(finding, "Linux %s", name.release);
    if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
        finding->error = -1;
}

/* A line of a uid_map: the first id inside, the first outside, how many. */
static bool read_range(const char *line, unsigned long ret[3]) {
    char *end;
    for (int i = 0; i < 3; i++, line = end) {
        ret[i] = strtoul(line, &end, 10);
        if (end == line)
            return false;
    }
    return true;
}

/* The middle of the last range of ids that our namespace has, of which any three do for a trial:
 * far from every account. 0 where there are none beside our own. */
static unsigned trial_id(const char *map) {
    char text[16384];
    unsigned long range[3] = {0, 0, 0};
    autoclose int fd = open(map, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = '\0';
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
        if (!read_range(line, range))
            return 0;
    return range[2] < 3 ? 0 : (unsigned)(range[0] + range[2] / 2 - 1);
}

/* Whether the ids we see are not the host's. */
static bool in_user_namespace(void) {
    char line[64];
    unsigned long range[3];
    if (!read_line("/proc/self/uid_map", line, sizeof line))
        return false;
    return read_range(line, range) && range[2] != UINT32_MAX;
}

static void try_capabilities(struct finding *finding) {
    static const struct {
        unsigned number;
        const char *name;
    } needed[] = {{CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
                  {CAP_SETUID, "CAP_SETUID"},
                  {CAP_SETGID, "CAP_SETGID"},
                  {CAP_KILL, "CAP_KILL"}};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    MUST(syscall(SYS_capget, &header, data), "capget");
    tell(finding, in_user_namespace() ? "root of a user namespace" : "root");
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!(data[0].effective & CAP_TO_MASK(needed[i].number))) {
            finding->error = -1;
            tell(finding, "no %s", needed[i].name);
            return;
        }
}

static void try_namespace(struct finding *finding, int flag) {
    MUST(unshare(CLONE_NEWUSER | flag), "unshare");
    tell(finding, "created");
}

static void try_user(struct finding *finding) { try_namespace(finding, 0); }
static void try_pid(struct finding *finding) { try_namespace(finding, CLONE_NEWPID); }
static void try_mount(struct finding *finding) { try_namespace(finding, CLONE_NEWNS); }
static void try_ipc(struct finding *finding) { try_namespace(finding, CLONE_NEWIPC); }
static void try_uts(struct finding *finding) { try_namespace(finding, CLONE_NEWUTS); }
static void try_cgroup(struct finding *finding) { try_namespace(finding, CLONE_NEWCGROUP); }
static void try_net(struct finding *finding) { try_namespace(finding, CLONE_NEWNET); }

static void try_namespace_limits(struct finding *finding) {
    static const char *const kinds[] = {"user", "pid", "mnt", "ipc", "uts", "cgroup", "net"};
    tell(finding, "none is 0");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[64];
        char value[32];
        (void)snprintf(path, sizeof path, "/proc/sys/user/max_%s_namespaces", kinds[i]);
        if (read_line(path, value, sizeof value) && !strcmp(value, "0")) {
            finding->error = -1;
            tell(finding, "user.max_%s_namespaces is 0", kinds[i]);
            return;
        }
    }
}

static void try_apparmor(struct finding *finding) {
    char value[8];
    const char *path = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    bool there = read_line(path, value, sizeof value);
    if (there && strcmp(value, "0") != 0)
        finding->error = -1;
    tell(finding, "%s", finding->error ? "restricted for unprivileged users" : "not restricted");
}

static int map_three(const char *process, const char *name, unsigned id) {
    char path[64];
    char map[128];
    (void)snprintf(path, sizeof path, "/proc/%s/%s", process, name);
    (void)snprintf(map, sizeof map, "%d %u 1\n%d %u 1\n%d %u 1\n", INIT_UID, id, JOB_UID, id + 1,
                   GUEST_UID, id + 2);
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, map, strlen(map)) < 0 ? -1 : 0;
}

static int map_users(pid_t pid) {
    char process[16];
    (void)snprintf(process, sizeof process, "%d", (int)pid);
    if (map_three(process, "uid_map", trial_id("/proc/self/uid_map")) < 0)
        return -1;
    return map_three(process, "gid_map", trial_id("/proc/self/gid_map"));
}

/* Runs a trial in namespaces that have the users of a slot: a map of our own root would need a
 * capability (CAP_SETFCAP, Linux 5.12) that no slot does. */
static void try_in(int flags, void (*trial)(struct finding *finding), struct finding *finding) {
    int go[2];
    char byte;
    MUST(pipe2(go, O_CLOEXEC), "pipe");
    struct clone_args args = {.flags = (unsigned)flags | CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = sys_clone3(&args);
    MUST(pid, "clone3 with new namespaces");
    if (pid == 0) {
        (void)close(go[1]); /* so that the end of the parent ends the wait */
        if (read(go[0], &byte, 1) == 1)
            trial(finding);
        _exit(0);
    }
    MUST(map_users(pid), "writing uid_map and gid_map");
    MUST(write(go[1], "g", 1), "write");
    MUST(waitpid(pid, NULL, 0), "waitpid");
}

static void use_mapping(struct finding *finding) {
    MUST(sys_become(JOB_UID), "setresuid in a user namespace");
    tell(finding, "three users mapped");
}

static void try_user_mapping(struct finding *finding) { try_in(0, use_mapping, finding); }

static int new_tmpfs(void) {
    autoclose int fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", "1m") < 0 ||
        sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return -1;
    return sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

static void mount_trees(struct finding *finding) {
    MUST(sys_become(INIT_UID), "setresuid in a user namespace");
    autoclose int tmpfs = new_tmpfs();
    MUST(tmpfs, "fsopen and fsmount of a tmpfs");
    autoclose int tree =
        sys_open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | AT_RECURSIVE | OPEN_TREE_CLOEXEC);
    MUST(tree, "open_tree of /usr");
    const struct mount_attr attr = {.attr_set =
                                        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    MUST(sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr), "mount_setattr");
    MUST(sys_move_mount(tmpfs, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "move_mount");
    MUST(mkdirat(tmpfs, "usr", 0755), "mkdir on the tmpfs");
    MUST(sys_move_mount(tree, "", tmpfs, "usr", MOVE_MOUNT_F_EMPTY_PATH), "move_mount");
    tell(finding, "open_tree, fsopen, mount_setattr, move_mount");
}

static void try_mount_api(struct finding *finding) { try_in(CLONE_NEWNS, mount_trees, finding); }

static void mount_proc(struct finding *finding) {
    autoclose int fs = sys_fsopen("proc", FSOPEN_CLOEXEC);
    MUST(fs, "fsopen");
    MUST(sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL), "fsconfig");
    MUST(sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID), "fsmount");
    tell(finding, "mounted");
}

static void try_proc(struct finding *finding) {
    try_in(CLONE_NEWNS | CLONE_NEWPID, mount_proc, finding);
}

static void set_loopback_up(struct finding *finding) {
    autoclose int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    MUST(sock, "socket");
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    MUST(ioctl(sock, SIOCSIFFLAGS, &request), "bringing lo up");
    tell(finding, "lo brought up");
}

static void try_loopback(struct finding *finding) {
    try_in(CLONE_NEWNET, set_loopback_up, finding);
}

static int install_policy(void) {
    const struct sock_fprog program = {sizeof sbx_policy / sizeof *sbx_policy,
                                       (struct sock_filter *)sbx_policy};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static void try_seccomp(struct finding *finding) {
    MUST(install_policy(), "seccomp");
    if (syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS) {
        finding->error = -1;
        tell(finding, "the filter is installed but does not filter");
        return;
    }
    tell(finding, "%zu instructions", sizeof sbx_policy / sizeof *sbx_policy);
}

static void try_clone3(struct finding *finding) {
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    pid_t pid = sys_clone3(&args);
    MUST(pid, "clone3");
    if (pid == 0)
        _exit(0);
    MUST(sys_pidfd_send_signal(pidfd, 0), "pidfd_send_signal");
    MUST(waitpid(pid, NULL, 0), "waitpid");
    autoclose int self = sys_pidfd_open(getpid());
    MUST(self, "pidfd_open");
    (void)close(pidfd);
    tell(finding, "clone3 with a pidfd");
}

/* The directory of a cgroup below a cgroup2 mount, or -1. */
static int open_cgroup(const char *mount, const char *cgroup) {
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s%s", mount, cgroup);
    autoclose int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir >= 0 && faccessat(dir, "cgroup.procs", F_OK, 0) == 0 ? take_fd(&dir) : -1;
}

/* A descriptor of our own cgroup in the unified hierarchy, or -1. */
static int open_own_cgroup(void) {
    char line[PATH_MAX];
    FILE *file = fopen("/proc/self/cgroup", "re");
    int dir = -1;
    while (file && dir < 0 && fgets(line, sizeof line, file)) {
        char *end = strchr(line, '\n');
        if (!end || strncmp(line, "0::", 3) != 0)
            continue;
        *end = '\0';
        dir = open_cgroup("/sys/fs/cgroup", line + 3);
        if (dir < 0)
            dir = open_cgroup("/sys/fs/cgroup/unified", line + 3);
    }
    if (file)
        (void)fclose(file); /* only read */
    return dir;
}

static void try_clone_into_cgroup(struct finding *finding) {
    autoclose int dir = open_own_cgroup();
    MUST(dir, "finding the cgroup2 hierarchy");
    struct clone_args args = {
        .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)dir};
    pid_t pid = sys_clone3(&args);
    MUST(pid, "clone3");
    if (pid == 0)
        _exit(0);
    MUST(waitpid(pid, NULL, 0), "waitpid");
    tell(finding, "a process was born in a cgroup");
}

static void try_openat2(struct finding *finding) {
    const struct open_how how = {.flags = O_RDONLY | O_CLOEXEC,
                                 .resolve =
                                     RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    autoclose int root = open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    MUST(root, "open");
    autoclose int fd = sys_openat2(root, "usr", &how);
    MUST(fd, "openat2");
    int escape = sys_openat2(root, "usr/../..", &how);
    tell(finding, "RESOLVE_BENEATH holds");
    if (escape >= 0) {
        finding->error = -1;
        tell(finding, "RESOLVE_BENEATH does not hold");
    }
}

static void try_close_range(struct finding *finding) {
    MUST(sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC), "close_range");
    tell(finding, "CLOSE_RANGE_CLOEXEC");
}

static void try_memfd(struct finding *finding) {
    autoclose int fd = memfd_create("check", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    MUST(fd, "memfd_create");
    MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK), "sealing");
    tell(finding, "sealed");
}

static void try_landlock(struct finding *finding) {
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    MUST(abi, "landlock_create_ruleset");
    tell(finding, "ABI %d", abi);
}

static void try_last_pid(struct finding *finding) {
    MUST(access("/proc/sys/kernel/ns_last_pid", W_OK), "kernel.ns_last_pid");
    tell(finding, "writable");
}

static void try_swap(struct finding *finding) {
    char header_and_first[512];
    autoclose int fd = open("/proc/swaps", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, header_and_first, sizeof header_and_first - 1);
    header_and_first[n < 0 ? 0 : n] = '\0';
    const char *first = strchr(header_and_first, '\n');
    tell(finding, "off");
    if (!first || !first[1])
        return;
    autoclose int own = open_own_cgroup();
    bool limited = (own >= 0 && faccessat(own, "memory.swap.max", F_OK, 0) == 0) ||
                   access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) == 0;
    finding->error = limited ? 0 : -1;
    tell(finding, limited ? "on, limited by the cgroup" : "on, and cgroups cannot limit it");
}

/* sandboxd needs it for `core_scheduling` only, and then says at its start that it is missing. */
static void try_core_scheduling(struct finding *finding) {
    uint64_t cookie;
    if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, 0, PR_SCHED_CORE_SCOPE_THREAD, &cookie) == 0)
        tell(finding, "hardware threads share cores");
    else if (errno == ENODEV)
        tell(finding, "no hardware threads share a core");
    else
        missing(finding, "PR_SCHED_CORE");
}

#define NAMESPACE_HINT(kind)                                                                       \
    "the kernel needs CONFIG_" kind "; in a container allow unshare (seccomp, AppArmor profile)"
#define KERNEL_HINT "Linux 5.12 or newer is needed, and in a container a seccomp profile with "

static const struct feature features[] = {
    {"kernel", true, try_kernel, "Linux 5.12 or newer is needed"},
    {"capabilities", true, try_capabilities,
     "run as root, or let systemd start it (sandboxd.service)"},
    {"user_namespace", true, try_user, NAMESPACE_HINT("USER_NS")},
    {"pid_namespace", true, try_pid, NAMESPACE_HINT("PID_NS")},
    {"mount_namespace", true, try_mount, NAMESPACE_HINT("NAMESPACES")},
    {"ipc_namespace", true, try_ipc, NAMESPACE_HINT("IPC_NS")},
    {"uts_namespace", true, try_uts, NAMESPACE_HINT("UTS_NS")},
    {"cgroup_namespace", true, try_cgroup, NAMESPACE_HINT("CGROUPS")},
    {"net_namespace", true, try_net, NAMESPACE_HINT("NET_NS")},
    {"namespace_limits", true, try_namespace_limits,
     "raise it: sysctl -w user.max_KIND_namespaces=10000"},
    {"apparmor_userns", false, try_apparmor,
     "only root may make user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
    {"user_mapping", true, try_user_mapping,
     "the helper needs CAP_SETUID and CAP_SETGID, and in a user namespace ids besides its own"},
    {"mount_api", true, try_mount_api, KERNEL_HINT "the mount API calls"},
    {"proc", true, try_proc,
     "a fully visible /proc is needed on the host; in a container run it without masked paths"},
    {"loopback", true, try_loopback, "the kernel needs CONFIG_INET"},
    {"seccomp", true, try_seccomp, "the kernel needs CONFIG_SECCOMP_FILTER"},
    {"clone3", true, try_clone3, KERNEL_HINT "clone3"},
    {"clone_into_cgroup", false, try_clone_into_cgroup,
     "needed with cgroup v2 only: mount the cgroup2 hierarchy at /sys/fs/cgroup"},
    {"openat2", true, try_openat2, KERNEL_HINT "openat2"},
    {"close_range", true, try_close_range, KERNEL_HINT "close_range"},
    {"memfd_sealing", true, try_memfd, "the kernel needs CONFIG_MEMFD_CREATE"},
    {"landlock", false, try_landlock,
     "the kernel needs CONFIG_SECURITY_LANDLOCK, and landlock in its lsm= list"},
    {"ns_last_pid", false, try_last_pid,
     "the kernel needs CONFIG_CHECKPOINT_RESTORE; without it jobs see growing pids"},
    {"core_scheduling", false, try_core_scheduling,
     "the kernel needs CONFIG_SCHED_CORE; only core_scheduling = true does"},
    {"swap", true, try_swap, "swapoff -a, or boot with swapaccount=1"},
};

/* The errno says more than the feature where the administrator set a limit. */
static const char *hint_for(const struct feature *feature, const struct finding *finding) {
    if (!finding->error)
        return "";
    if (finding->error == ENOSPC)
        return "a namespace limit is reached: see sysctl user.max_user_namespaces and the others";
    return feature->hint;
}

/* Tries one feature in a child of its own. */
static void try_feature(const struct feature *feature, struct finding *finding) {
    *finding = (struct finding){.detail = "the trial ended early", .error = -1};
    pid_t pid = fork();
    if (pid == 0) {
        finding->error = 0;
        feature->try(finding);
        _exit(0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        missing(finding, "fork");
    else if (status && !finding->error)
        finding->error = -1;
}

int sbx_check(void) {
    struct finding *finding =
        mmap(NULL, sizeof *finding, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (finding == MAP_FAILED)
        return 1;
    bool complete = true;
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        const struct feature *feature = &features[i];
        try_feature(feature, finding);
        complete = complete && (!finding->error || !feature->required);
        printf("%s\t%s\t%s\t%s\t%s\n", feature->name, finding->error ? "missing" : "ok",
               feature->required ? "required" : "optional", finding->detail,
               hint_for(feature, finding));
    }
    return fflush(stdout) || !complete;
}
