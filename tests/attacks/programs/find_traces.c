/* D6, X4, X7, N4: the second job in one sandbox: describes everything in it that an earlier job may
 * have changed. Run in a fresh sandbox it must say exactly the same. */
#include "attack.h"
#include <dirent.h>
#include <ftw.h>
#include <linux/fs.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

extern char **environ;
static const char *const places[] = {"/work", "/tmp", "/dev/shm", "/var/tmp", "/run/lock"};

static void describe(const char *place) {
    char name[128], list[256] = "";
    struct stat info;
    if (stat(place, &info) < 0) {
        say(place, strerrorname_np(errno));
        return;
    }
    snprintf(name, sizeof name, "%s_mode", place);
    dprintf(1, "%s=%o:%d:%d\n", name, info.st_mode, info.st_uid, info.st_gid);
    snprintf(name, sizeof name, "%s_age_ok", place);
    say_number(name, time(NULL) - info.st_mtime < 3600);
    snprintf(name, sizeof name, "%s_xattr", place);
    say_number(name, listxattr(place, list, sizeof list));
    int fd = open(place, O_RDONLY | O_DIRECTORY), flags = 0;
    snprintf(name, sizeof name, "%s_flags", place);
    int known = ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0;
    dprintf(1, "%s=%d:%x\n", name, known, flags);
    snprintf(name, sizeof name, "%s_lock", place);
    TRY(name, flock(fd, LOCK_EX | LOCK_NB));
    close(fd);
    struct statvfs space;
    statvfs(place, &space);
    snprintf(name, sizeof name, "%s_files", place);
    say_number(name, (long long)(space.f_files - space.f_ffree));
    DIR *directory = opendir(place);
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            snprintf(name, sizeof name, "%s_entry_%.60s", place, entry->d_name);
            say(name, "there");
        }
    }
}

static void describe_ipc(void) {
    TRY("shm", shmget(0x5eed, 0, 0));
    TRY("sem", semget(0x5eed, 0, 0));
    TRY("msg", msgget(0x5eed, 0));
    say_number("shm_any", shmctl(0, SHM_INFO, (struct shmid_ds *)&(struct shm_info){0}));
    TRY("mq", mq_open("/trace", O_RDWR));
    TRY("posix_shm", shm_open("/trace", O_RDWR, 0));
    char bytes[4096];
    TRY("keyring", syscall(SYS_request_key, "user", "trace", NULL, 0));
    TRY("keyring_read", syscall(SYS_keyctl, 11, -3, bytes, sizeof bytes));
}

static void describe_sockets(void) {
    struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0trace"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    TRY("abstract", connect(fd, (struct sockaddr *)&abstract, 8));
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons(45678)};
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    TRY("port", fd < 0 ? -1 : connect(fd, (struct sockaddr *)&port, sizeof port));
    fd = socket(AF_INET, SOCK_STREAM, 0);
    TRY("port_free", fd < 0 ? -1 : bind(fd, (struct sockaddr *)&port, sizeof port));
}

/* They outlive their sockets. */
static void describe_flow_labels(void) {
    char line[256];
    long labels = 0;
    FILE *table = fopen("/proc/net/ip6_flowlabel", "r");
    say_number("flow_labels_known", table != NULL);
    while (table && fgets(line, sizeof line, table)) {
        dprintf(1, "flow_label_%ld=%s", labels++, line);
    }
}

static void describe_settings(void) {
    mode_t mask = umask(0);
    dprintf(1, "umask=%o\n", mask);
    umask(mask);
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    struct sigaction action;
    for (int number = 1; number < NSIG; number++) {
        char name[32];
        snprintf(name, sizeof name, "signal_%d", number);
        if (sigismember(&blocked, number) == 1) {
            say(name, "blocked");
        }
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL) {
            say(name, "ignored");
        }
    }
    for (int which = 0; which < RLIM_NLIMITS; which++) {
        struct rlimit limit;
        getrlimit(which, &limit);
        dprintf(1, "rlimit_%d=%llu:%llu\n", which, (unsigned long long)limit.rlim_cur,
                (unsigned long long)limit.rlim_max);
    }
    say_number("nice", getpriority(PRIO_PROCESS, 0));
    struct utsname names;
    uname(&names);
    say("hostname", names.nodename);
    say("domainname", names.domainname);
    char text[4096];
    say("cwd", getcwd(text, sizeof text));
    for (char **variable = environ; *variable; variable++) {
        dprintf(1, "env_%s\n", *variable);
    }
    say_number("dumpable", prctl(PR_GET_DUMPABLE));
    say_number("ids", getuid() == geteuid() && getgid() == getegid() ? (long)getuid() : -1);
}

static void describe_text(const char *name, const char *path) {
    char text[64] = "";
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[got > 0 ? got : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    say(name, got < 0 ? strerrorname_np(errno) : text);
    close(fd);
}

/* The ids of the next objects count all that were there before. Making objects leaves a trace of
 * its own, so this is asked for. */
static void describe_ipc_counters(void) {
    int shm = shmget(IPC_PRIVATE, 4096, 0600), sem = semget(IPC_PRIVATE, 1, 0600);
    int msg = msgget(IPC_PRIVATE, 0600);
    dprintf(1, "ipc_ids=%d:%d:%d\n", shm, sem, msg);
    shmctl(shm, IPC_RMID, NULL);
    semctl(sem, 0, IPC_RMID);
    msgctl(msg, IPC_RMID, NULL);
}

/* Numbers that count what happened in the namespaces: packets, what pid 1 has waited for. */
static void describe_counters(void) {
    static const char *const tables[] = {"/proc/net/snmp", "/proc/net/netstat", "/proc/net/snmp6",
                                         "/proc/net/dev"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        unsigned long sum = 0, number;
        char word[256];
        FILE *table = fopen(tables[i], "r");
        while (table && fscanf(table, "%255s", word) == 1) {
            if (sscanf(word, "%lu", &number) == 1) {
                sum = sum * 31 + number;
            }
        }
        dprintf(1, "%s=%lu\n", tables[i], sum);
    }
    char line[1024] = "";
    FILE *stat = fopen("/proc/1/stat", "r");
    if (stat && fgets(line, sizeof line, stat)) {
        long faults = 0, user = 0, system = 0;
        sscanf(strrchr(line, ')') + 2,
               "%*c %*d %*d %*d %*d %*d %*u %*u %ld %*u %*u %*u %*u %ld %ld", &faults, &user,
               &system);
        dprintf(1, "init_waited=%ld:%ld:%ld\n", faults, user, system);
    }
    FILE *status = fopen("/proc/1/status", "r");
    while (status && fgets(line, sizeof line, status)) {
        if (strstr(line, "ctxt_switches")) {
            dprintf(1, "init_%s", line);
        }
    }
}

static void describe_processes(void) {
    say_number("pid", getpid());
    say_number("ppid", getppid());
    say_number("sid", getsid(0));
    say_number("pgid", getpgrp());
    pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    waitpid(child, NULL, 0);
    say_number("child", child);
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && (entry = readdir(proc))) {
        if (atoi(entry->d_name) > 0) {
            say("process", entry->d_name);
        }
    }
    char line[1024];
    long mounts = 0;
    FILE *table = fopen("/proc/self/mountinfo", "r");
    while (table && fgets(line, sizeof line, table)) {
        mounts++;
    }
    say_number("mounts", mounts);
}

int main(int argc, char **argv) {
    char map[128] = "";
    int own = open("/proc/self/uid_map", O_RDONLY);
    (void)!read(own, map, sizeof map - 1);
    close(own);
    unsigned inside, outside = 0;
    sscanf(map, "%u %u", &inside, &outside);
    say_number("slot", outside);
    /* Before anything else is opened. */
    DIR *fds = opendir("/proc/self/fd");
    struct dirent *entry;
    while (fds && (entry = readdir(fds))) {
        if (atoi(entry->d_name) > 2 && atoi(entry->d_name) != dirfd(fds)) {
            say("fd", entry->d_name);
        }
    }
    closedir(fds);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        describe(places[i]);
    }
    describe_ipc();
    describe_sockets();
    describe_flow_labels();
    describe_settings();
    describe_processes();
    describe_counters();
    if (argc > 1 && strcmp(argv[1], "ipc") == 0)
        describe_ipc_counters();
    describe_text("msgmax", "/proc/sys/kernel/msgmax");
    describe_text("ttl", "/proc/sys/net/ipv4/ip_default_ttl");
    describe_text("oom", "/proc/self/oom_score_adj");
    describe_text("oom_init", "/proc/1/oom_score_adj");
    return 0;
}
