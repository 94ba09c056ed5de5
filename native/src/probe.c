/*
 * sandbox-probe: the job of the start-up self test. Each subcommand goes for one limit and prints
 * what it got as key=value lines on stdout:
 *
 *   exit N            exits with N                       (prints nothing)
 *   signal N          kills itself with signal N         (prints nothing)
 *   cpu MS            uses MS ms of CPU                  cpu_ns
 *   sleep MS          sleeps                             slept_ms
 *   memory BYTES      maps and touches                   touched, errno
 *   stack BYTES       recurses                           stack
 *   fork N            children that wait for their end   forked, errno
 *   write BYTES PATH  writes one file                    written, errno
 *   files N DIR       makes empty files                  made, errno
 *   files-open N      opens "/" again and again          opened, errno
 *   print BYTES       BYTES times 'x' on stdout          (prints nothing else)
 *   stderr BYTES      the same on stderr
 *   stdin             copies stdin to stdout
 *   id                uid, gid, groups, pid, ppid, session, cap_effective, cap_permitted,
 *                     cap_inheritable, cap_bounding, no_new_privs, seccomp
 *   usage             user_ns, system_ns, max_rss_bytes
 *   net               loopback_errno, internet_errno
 *
 * errno is 0 when all that was asked for was done. A wrong command line exits with 2.
 *
 * No C library: the program is some kilobytes, so that the figures a self test reads are the
 * sandbox's own, and it starts the same whatever is mounted in the sandbox.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

enum {
    CHUNK = 65536,
    PAGE = 4096, /* touching more often than the page size does no harm */
    NANOSECONDS_PER_MS = 1000000,
    USAGE_ERROR = 2,
};

typedef unsigned long word;

/* Called by _start, with what the kernel left on the stack. */
__attribute__((noreturn, used)) void probe_start(word *stack); // NOLINT(misc-use-internal-linkage)

#if defined(__x86_64__)

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n"
        "\tcall probe_start\n");

static long call6(long number, word a, word b, word c, word d, word e, word f) {
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    register word r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tbl probe_start\n");

static long call6(long number, word a, word b, word c, word d, word e, word f) {
    register word x8 __asm__("x8") = (word)number;
    register word x0 __asm__("x0") = a;
    register word x1 __asm__("x1") = b;
    register word x2 __asm__("x2") = c;
    register word x3 __asm__("x3") = d;
    register word x4 __asm__("x4") = e;
    register word x5 __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return (long)x0;
}

#else
#error "sandbox-probe knows x86-64 and aarch64"
#endif

static long call(long number, word a, word b, word c, word d) {
    return call6(number, a, b, c, d, 0, 0);
}

/* The compiler may call these two by itself. */
__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *memset(void *to, int value,
                                                                           size_t size) {
    for (char *p = to; size; size--)
        *p++ = (char)value;
    return to;
}

__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *
memcpy(void *restrict to, const void *restrict from, size_t size) {
    const char *q = from;
    for (char *p = to; size; size--)
        *p++ = *q++;
    return to;
}

__attribute__((noreturn)) static void finish(int status) {
    for (;;)
        call(SYS_exit_group, (word)status, 0, 0, 0);
}

static size_t length(const char *text) {
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}

static int equal(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* Decimal text to number; anything else ends the program. */
static uint64_t number(const char *text) {
    uint64_t value = 0;
    if (!*text)
        finish(USAGE_ERROR);
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            finish(USAGE_ERROR);
        value = value * 10 + (uint64_t)(*text - '0');
    }
    return value;
}

/* Writes value in the given base in front of end; returns where the text begins. */
static char *digits(char *end, uint64_t value, unsigned base) {
    do {
        *--end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    return end;
}

static void put(const char *key, uint64_t value, unsigned base) {
    char line[64];
    char *end = line + sizeof line;
    *--end = '\n';
    char *start = digits(end, value, base);
    *--start = '=';
    size_t n = length(key);
    memcpy(start - n, key, n);
    start -= n;
    call(SYS_write, 1, (word)start, (word)(line + sizeof line - start), 0);
}

static void put_count(const char *key, uint64_t value, long error) {
    put(key, value, 10);
    put("errno", (uint64_t)(error < 0 ? -error : 0), 10);
}

static uint64_t clock_ns(int clock) {
    struct timespec now = {0};
    call(SYS_clock_gettime, (word)clock, (word)&now, 0, 0);
    return (uint64_t)now.tv_sec * 1000 * NANOSECONDS_PER_MS + (uint64_t)now.tv_nsec;
}

static uint64_t time_ns(const struct timeval *t) {
    return ((uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec) * 1000;
}

static struct rusage own_usage(void) {
    struct rusage usage;
    memset(&usage, 0, sizeof usage);
    call(SYS_getrusage, RUSAGE_SELF, (word)&usage, 0, 0);
    return usage;
}

static void burn_cpu(uint64_t ms) {
    while (clock_ns(CLOCK_PROCESS_CPUTIME_ID) < ms * NANOSECONDS_PER_MS)
        for (volatile int i = 0; i < 20000; i++)
            ;
    struct rusage usage = own_usage();
    put("cpu_ns", time_ns(&usage.ru_utime) + time_ns(&usage.ru_stime), 10);
}

static void sleep_ms(uint64_t ms) {
    struct timespec rest = {(time_t)(ms / 1000), (long)(ms % 1000 * NANOSECONDS_PER_MS)};
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    while (call(SYS_nanosleep, (word)&rest, (word)&rest, 0, 0) < 0)
        ;
    put("slept_ms", (clock_ns(CLOCK_MONOTONIC) - start) / NANOSECONDS_PER_MS, 10);
}

static void touch_memory(uint64_t bytes) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    long at = call6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, (word)flags, (word)-1, 0);
    if (at < 0 && at > -PAGE) {
        put_count("touched", 0, at);
        return;
    }
    for (uint64_t i = 0; i < bytes; i += PAGE)
        ((volatile char *)at)[i] = 1;
    put_count("touched", bytes, 0);
}

__attribute__((noinline)) static int recurse(uint64_t bytes) {
    volatile char page[PAGE];
    page[0] = 1;
    return bytes > PAGE ? recurse(bytes - PAGE) + page[0] : page[0];
}

/* Lives no longer than its parent, which may be gone before the first call. */
__attribute__((noreturn)) static void wait_for_death(long parent) {
    call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
    if (call(SYS_getppid, 0, 0, 0, 0) != parent)
        finish(0);
    for (;;)
        call(SYS_ppoll, 0, 0, 0, 0);
}

static void fork_children(uint64_t count) {
    uint64_t done = 0;
    long pid = 0;
    long own = call(SYS_getpid, 0, 0, 0, 0);
    for (; done < count; done++) {
        pid = call(SYS_clone, SIGCHLD, 0, 0, 0);
        if (pid == 0)
            wait_for_death(own);
        if (pid < 0)
            break;
    }
    put_count("forked", done, pid);
}

/* Writes count bytes of 'x'; returns how many were written, the last errno in *error. */
static uint64_t write_bytes(int fd, uint64_t count, long *error) {
    static char buffer[CHUNK];
    memset(buffer, 'x', sizeof buffer);
    uint64_t done = 0;
    while (done < count) {
        uint64_t left = count - done;
        *error = call(SYS_write, (word)fd, (word)buffer, left < CHUNK ? left : CHUNK, 0);
        if (*error <= 0)
            break;
        done += (uint64_t)*error;
    }
    return done;
}

/* Ignored, so that the file size limit is an errno and not the end. */
static void ignore_file_size_signal(void) {
    word action[4] = {(word)SIG_IGN, 0, 0, 0};
    call(SYS_rt_sigaction, SIGXFSZ, (word)action, 0, 8);
}

static void write_file(uint64_t bytes, const char *path) {
    ignore_file_size_signal();
    long fd = call(SYS_openat, (word)AT_FDCWD, (word)path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    long error = fd;
    uint64_t done = fd < 0 ? 0 : write_bytes((int)fd, bytes, &error);
    put_count("written", done, error);
}

static void make_files(uint64_t count, const char *dir) {
    long fd = call(SYS_openat, (word)AT_FDCWD, (word)dir, O_RDONLY | O_DIRECTORY, 0);
    long error = fd;
    uint64_t done = 0;
    for (; error >= 0 && done < count; done += error >= 0) {
        char name[24];
        name[23] = 0;
        error = call(SYS_mknodat, (word)fd, (word)digits(name + 23, done, 10), S_IFREG | 0600, 0);
        if (error == -EEXIST)
            error = 0;
    }
    put_count("made", done, error);
}

static void open_files(uint64_t count) {
    long fd = 0;
    uint64_t done = 0;
    for (; done < count; done++) {
        fd = call(SYS_openat, (word)AT_FDCWD, (word) "/", O_RDONLY, 0);
        if (fd < 0)
            break;
    }
    put_count("opened", done, fd);
}

static void copy_stdin(void) {
    static char buffer[CHUNK];
    for (;;) {
        long n = call(SYS_read, 0, (word)buffer, sizeof buffer, 0);
        if (n <= 0)
            return;
        for (long done = 0; done < n;) {
            long w = call(SYS_write, 1, (word)(buffer + done), (word)(n - done), 0);
            if (w <= 0)
                finish(1);
            done += w;
        }
    }
}

static uint64_t bounding_set(void) {
    uint64_t set = 0;
    for (word cap = 0; cap < 64; cap++)
        if (call(SYS_prctl, PR_CAPBSET_READ, cap, 0, 0) == 1)
            set |= 1ull << cap;
    return set;
}

static void put_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    call(SYS_capget, (word)&header, (word)data, 0, 0);
    put("cap_effective", data[0].effective | (uint64_t)data[1].effective << 32, 16);
    put("cap_permitted", data[0].permitted | (uint64_t)data[1].permitted << 32, 16);
    put("cap_inheritable", data[0].inheritable | (uint64_t)data[1].inheritable << 32, 16);
    put("cap_bounding", bounding_set(), 16);
}

static void put_identity(void) {
    put("uid", (uint64_t)call(SYS_getuid, 0, 0, 0, 0), 10);
    put("gid", (uint64_t)call(SYS_getgid, 0, 0, 0, 0), 10);
    put("groups", (uint64_t)call(SYS_getgroups, 0, 0, 0, 0), 10);
    put("pid", (uint64_t)call(SYS_getpid, 0, 0, 0, 0), 10);
    put("ppid", (uint64_t)call(SYS_getppid, 0, 0, 0, 0), 10);
    put("session", (uint64_t)call(SYS_getsid, 0, 0, 0, 0), 10);
    put_capabilities();
    put("no_new_privs", (uint64_t)call(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0), 10);
    put("seccomp", (uint64_t)call(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0), 10);
}

static void put_usage(void) {
    struct rusage usage = own_usage();
    put("user_ns", time_ns(&usage.ru_utime), 10);
    put("system_ns", time_ns(&usage.ru_stime), 10);
    put("max_rss_bytes", (uint64_t)usage.ru_maxrss * 1024, 10);
}

/* Connects a datagram socket, which sends nothing: the answer is the routing table's. */
static void put_route(const char *key, uint32_t address) {
    struct sockaddr_in to;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = 0x0900; /* discard, in network order */
    to.sin_addr.s_addr = address;
    long fd = call(SYS_socket, AF_INET, SOCK_DGRAM, 0, 0);
    long error = fd < 0 ? fd : call(SYS_connect, (word)fd, (word)&to, sizeof to, 0);
    put(key, (uint64_t)(error < 0 ? -error : 0), 10);
}

/* Subcommands with no argument. */
static int run_plain(const char *command) {
    if (equal(command, "stdin"))
        copy_stdin();
    else if (equal(command, "id"))
        put_identity();
    else if (equal(command, "usage"))
        put_usage();
    else if (equal(command, "net")) {
        put_route("loopback_errno", 0x0100007f); /* 127.0.0.1 */
        put_route("internet_errno", 0x010200c0); /* 192.0.2.1, for documentation (RFC 5737) */
    } else
        return USAGE_ERROR;
    return 0;
}

/* Subcommands with a number. */
static int run_number(const char *command, uint64_t n) {
    long error = 0;
    if (equal(command, "exit"))
        return (int)n;
    if (equal(command, "signal"))
        call(SYS_kill, (word)call(SYS_getpid, 0, 0, 0, 0), n, 0, 0);
    else if (equal(command, "cpu"))
        burn_cpu(n);
    else if (equal(command, "sleep"))
        sleep_ms(n);
    else if (equal(command, "memory"))
        touch_memory(n);
    else if (equal(command, "stack"))
        put("stack", (uint64_t)(recurse(n) > 0 ? n : 0), 10);
    else if (equal(command, "fork"))
        fork_children(n);
    else if (equal(command, "files-open"))
        open_files(n);
    else if (equal(command, "print"))
        return write_bytes(1, n, &error) < n;
    else if (equal(command, "stderr"))
        return write_bytes(2, n, &error) < n;
    else
        return USAGE_ERROR;
    return 0;
}

/* Subcommands with a number and a path. */
static int run_path(const char *command, uint64_t n, const char *path) {
    if (equal(command, "write"))
        write_file(n, path);
    else if (equal(command, "files"))
        make_files(n, path);
    else
        return USAGE_ERROR;
    return 0;
}

void probe_start(word *stack) {
    word argc = stack[0];
    char **argv = (char **)(stack + 1);
    int status = USAGE_ERROR;
    if (argc == 2)
        status = run_plain(argv[1]);
    else if (argc == 3)
        status = run_number(argv[1], number(argv[2]));
    else if (argc == 4)
        status = run_path(argv[1], number(argv[2]), argv[3]);
    finish(status);
}
