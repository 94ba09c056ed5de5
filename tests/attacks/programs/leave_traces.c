/* D6, X4, X7, N4: the first of two jobs in one sandbox: leaves something of every kind behind, or
 * only one of them. What it could not leave it says, and which host ids tell
 * its sandbox from others. find_traces.c looks for all of it. */
#include "attack.h"
#include <linux/fs.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

static const char *const places[] = {"/work", "/tmp", "/dev/shm", "/var/tmp", "/run/lock"};

static void leave_files(void) {
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (chdir(places[i]) < 0)
            continue;
        (void)!open("trace", O_WRONLY | O_CREAT, 0666);
        (void)!open(".hidden", O_WRONLY | O_CREAT, 0600);
        (void)!mkdir("directory", 0777);
        (void)!mkdir("directory/deeper", 0);
        (void)!symlink("/etc", "link");
        (void)!mkfifo("fifo", 0666);
        flock(open(places[i], O_RDONLY), LOCK_EX);
        struct timespec times[2] = {{1, 0}, {1, 0}};
        (void)!utimensat(AT_FDCWD, places[i], times, 0);
        (void)!chmod(places[i], 01711);
    }
    (void)!chdir("/work");
}

static void attempt(const char *what, const char *place, long result) {
    char name[64];
    snprintf(name, sizeof name, "%s_%s", what, place);
    say_result(name, result);
}

/* Of the directories that stay from job to job. */
static void leave_attributes(void) {
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct timespec times[2] = {{1, 0}, {1, 0}};
        int fd = open(places[i], O_RDONLY), flags = FS_NODUMP_FL | FS_NOATIME_FL;
        if (fd < 0)
            continue;
        struct fsxattr extended = {.fsx_projid = 7};
        attempt("flags", places[i], ioctl(fd, FS_IOC_SETFLAGS, &flags));
        attempt("project", places[i], ioctl(fd, FS_IOC_FSSETXATTR, &extended));
        attempt("chmod", places[i], chmod(places[i], 01711));
        attempt("chown", places[i], chown(places[i], 1000, 1000));
        attempt("utimes", places[i], utimensat(AT_FDCWD, places[i], times, 0));
    }
}

static void leave_xattrs(void) {
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        attempt("xattr", places[i], setxattr(places[i], "user.trace", "1", 1, 0));
}

static void leave_ipc(void) {
    TRY("shm", shmget(0x5eed, 4096, IPC_CREAT | 0666));
    TRY("sem", semget(0x5eed, 1, IPC_CREAT | 0666));
    TRY("msg", msgget(0x5eed, IPC_CREAT | 0666));
    TRY("mq", mq_open("/trace", O_CREAT | O_RDWR, 0666, NULL));
    TRY("posix_shm", shm_open("/trace", O_CREAT | O_RDWR, 0666));
    TRY("keyring", syscall(SYS_add_key, "user", "trace", "1", 1, -3));
    TRY("keyring_user", syscall(SYS_add_key, "user", "trace", "1", 1, -4));
}

/* Objects that are gone again still move the counters that number the next ones. */
static void move_ipc_counters(void) {
    for (int i = 0; i < 3; i++) {
        shmctl(shmget(IPC_PRIVATE, 4096, 0600), IPC_RMID, NULL);
        semctl(semget(IPC_PRIVATE, 1, 0600), 0, IPC_RMID);
        msgctl(msgget(IPC_PRIVATE, 0600), IPC_RMID, NULL);
    }
}

static void move_network_counters(void) {
    for (int i = 0; i < 3; i++) {
        struct sockaddr_in away = {.sin_family = AF_INET, .sin_port = htons(53)};
        away.sin_addr.s_addr = htonl(0x08080808);
        sendto(socket(AF_INET, SOCK_DGRAM, 0), "x", 1, 0, (struct sockaddr *)&away, sizeof away);
        connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&away, sizeof away);
    }
}

static void leave_sockets(void) {
    struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0trace"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    TRY("abstract", bind(fd, (struct sockaddr *)&abstract, 8));
    listen(fd, 5);
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons(45678)};
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    TRY("port", fd < 0 ? -1 : bind(fd, (struct sockaddr *)&port, sizeof port));
    listen(fd, 5);
}

static void send_over(int socket, const int *fds, size_t count) {
    char room[CMSG_SPACE(4 * sizeof *fds)] = {0}, byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = room,
                             .msg_controllen = CMSG_SPACE(count * sizeof *fds)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(head), fds, count * sizeof *fds);
    TRY("cycle", sendmsg(socket, &message, 0));
}

/* Sockets on their way over one another have nobody who closes them. */
static void leave_cycle(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0trace"};
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons(45678)};
    int fds[4] = {socket(AF_UNIX, SOCK_DGRAM, 0), socket(AF_UNIX, SOCK_DGRAM, 0),
                  socket(AF_INET, SOCK_STREAM, 0), memfd_create("trace", 0)};
    (void)!bind(fds[0], (struct sockaddr *)&name, 8);
    (void)!connect(fds[1], (struct sockaddr *)&name, 8);
    (void)!bind(fds[2], (struct sockaddr *)&port, sizeof port);
    listen(fds[2], 5);
    send_over(fds[1], fds, 4);
}

/* Of <linux/in6.h>, which C libraries cannot be used with. */
struct flow_label {
    struct in6_addr destination;
    uint32_t label;
    uint8_t action, share;
    uint16_t flags, expires, linger;
    uint32_t pad;
};

/* A label lasts for a while after the last socket that had it. */
static void leave_flow_label(void) {
    enum { LABEL_MANAGER = 32, GET = 0, CREATE = 1, ANY = 255, LONGEST_S = 60 };
    const struct flow_label label = {.destination.s6_addr = {0x20, 0x01, 0x0d, 0xb8},
                                     .label = htonl(0x5eed),
                                     .action = GET,
                                     .share = ANY,
                                     .flags = CREATE,
                                     .expires = LONGEST_S,
                                     .linger = LONGEST_S};
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    TRY("flow_label", setsockopt(fd, IPPROTO_IPV6, LABEL_MANAGER, &label, sizeof label));
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    TRY("flow_label_tcp", setsockopt(fd, IPPROTO_IPV6, LABEL_MANAGER, &label, sizeof label));
    const long garbage = (long)0xdeadbeef00000000;
    TRY("flow_label_high", syscall(SYS_setsockopt, fd, IPPROTO_IPV6 | garbage,
                                   LABEL_MANAGER | garbage, &label, sizeof label));
}

static void leave_settings(void) {
    umask(0);
    signal(SIGUSR1, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int which = 0; which < RLIM_NLIMITS; which++) {
        struct rlimit less;
        getrlimit(which, &less);
        if (which != RLIMIT_NPROC && which != RLIMIT_CPU && which != RLIMIT_AS &&
            which != RLIMIT_DATA) {
            less.rlim_cur = less.rlim_max = less.rlim_max > 32 ? 32 : less.rlim_max;
            setrlimit(which, &less);
        }
    }
    setpriority(PRIO_PROCESS, 0, 19);
    prctl(PR_SET_NAME, "trace");
    TRY("hostname", sethostname("trace", 5));
    TRY("domainname", setdomainname("trace", 5));
    TRY("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    int fd = open("/proc/sys/kernel/msgmax", O_WRONLY);
    TRY("sysctl", fd < 0 ? -1 : write(fd, "4096", 4));
    fd = open("/proc/sys/net/ipv4/ip_default_ttl", O_WRONLY);
    TRY("sysctl_net", fd < 0 ? -1 : write(fd, "63", 2));
    fd = open("/proc/1/oom_score_adj", O_WRONLY);
    TRY("oom_init", fd < 0 ? -1 : write(fd, "1000", 4));
    (void)!chdir("/tmp");
}

static void say_slot(void) {
    char line[128] = "";
    int fd = open("/proc/self/uid_map", O_RDONLY);
    (void)!read(fd, line, sizeof line - 1);
    unsigned inside, outside = 0;
    sscanf(line, "%u %u", &inside, &outside);
    say_number("slot", outside);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "all";
    say_slot();
    bool all = strcmp(what, "all") == 0;
    if (all || strcmp(what, "files") == 0)
        leave_files();
    if (all || strcmp(what, "attributes") == 0)
        leave_attributes();
    if (all || strcmp(what, "xattrs") == 0)
        leave_xattrs();
    if (all || strcmp(what, "network") == 0) {
        leave_sockets();
        leave_flow_label();
        move_network_counters();
    }
    if (all || strcmp(what, "cycle") == 0)
        leave_cycle();
    if (all || strcmp(what, "ipc") == 0)
        leave_ipc();
    if (all || strcmp(what, "ipc_counters") == 0)
        move_ipc_counters();
    if (all || strcmp(what, "settings") == 0)
        leave_settings();
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            setsid();
            for (int number = 1; number < NSIG; number++) {
                signal(number, SIG_IGN);
            }
            if (fork() == 0) {
                for (;;) {
                    pause();
                }
            }
            for (;;) {
                pause();
            }
        }
    }
    return 0;
}
