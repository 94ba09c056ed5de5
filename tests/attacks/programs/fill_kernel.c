/* M15, D12: objects that cost the kernel memory and no descriptor: record locks, mappings, watches
 * of an epoll, queued signals, timers. As many as it gives. */
#include "attack.h"
#include <sys/epoll.h>
#include <sys/mman.h>

static void end(const char *name, long count) {
    say(name, strerrorname_np(errno));
    say_number("count", count);
    exit(0);
}

/* In many files: the kernel looks through all locks of one for each new one. */
static void fill_locks(void) {
    int files[48];
    for (int i = 0; i < 48; i++) {
        char name[32];
        snprintf(name, sizeof name, "/work/locked%d", i);
        files[i] = open(name, O_RDWR | O_CREAT, 0600);
    }
    for (long count = 0;; count++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = count, .l_len = 1};
        if (fcntl(files[count % 48], F_SETLK, &lock) < 0)
            end("locks", count);
    }
}

static void fill_mappings(void) {
    for (long count = 0;; count++) {
        /* Different rights, or the kernel makes one mapping of all. */
        int rights = count % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
        if (mmap(NULL, 4096, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
            end("mappings", count);
    }
}

static void fill_watches(void) {
    int pair[2];
    if (pipe(pair) < 0)
        end("watches", -1);
    for (long count = 0;; count++) {
        int poll = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, pair[0], &event) < 0)
            end("watches", count);
    }
}

static void fill_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (long count = 0;; count++) {
        if (sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1}) < 0)
            end("signals", count);
    }
}

static void fill_timers(void) {
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    for (long count = 0;; count++) {
        timer_t timer;
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
            end("timers", count);
    }
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*fill)(void);
    } kinds[] = {{"locks", fill_locks},
                 {"mappings", fill_mappings},
                 {"watches", fill_watches},
                 {"signals", fill_signals},
                 {"timers", fill_timers}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (argc > 1 && strcmp(argv[1], kinds[i].name) == 0)
            kinds[i].fill();
    }
    return 2;
}
