/*
 * floor: what the kernel itself needs to start, run and reap a program.
 *
 * Runs PROGRAM again and again by vfork + exec + wait from a tiny process, in WORKERS processes at
 * once, and prints the time of each. The static `true` run this way is the floor every sandbox is
 * compared with; a sandbox that is a command line tool is run in the same way, so that nothing of
 * the measuring program is in the difference. A '@' that ends an argument becomes the number of
 * the worker: two containers that run at once need two names.
 *
 * Output: "elapsed_ns N", then one line with the nanoseconds of each run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PASSED_FD = 3 }; /* where a run finds the file of -f */

struct floor {
    unsigned jobs; /* of each worker */
    unsigned workers;
    unsigned gap_us;  /* pause between two runs */
    const char *file; /* opened anew for each run, as descriptor PASSED_FD */
    char **argv;
    uint64_t *ret_ns; /* jobs * workers, shared with the workers */
};

static uint64_t now_ns(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Between vfork and exec: the parent's memory is shared, so only system calls. */
static void exec_program(const struct floor *f) {
    char *const no_environment[] = {NULL};

    if (f->file) {
        int fd = open(f->file, O_RDONLY);

        if (fd < 0 || (fd != PASSED_FD && dup2(fd, PASSED_FD) < 0)) {
            _exit(126);
        }
    }
    (void)execve(f->argv[0], f->argv, no_environment); /* returns only on failure */
    _exit(127);
}

static uint64_t run_once(const struct floor *f) {
    uint64_t start = now_ns();
    int status = 0;
    pid_t pid = vfork();

    if (pid == 0) {
        exec_program(f);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        die("vfork or waitpid");
    }
    if (status != 0) {
        fprintf(stderr, "floor: %s ended with wait status 0x%x\n", f->argv[0], (unsigned)status);
        exit(1);
    }
    return now_ns() - start;
}

static void work(const struct floor *f, unsigned worker) {
    uint64_t *ret_ns = f->ret_ns + (size_t)worker * f->jobs;

    for (char **argument = f->argv; *argument; argument++) {
        char *at = strchr(*argument, '@');

        if (at && at[1] == 0) {
            *at = (char)('0' + worker); /* a worker has a copy of its own */
        }
    }
    for (unsigned i = 0; i < f->jobs; i++) {
        if (f->gap_us != 0) {
            (void)usleep(f->gap_us); /* a shorter pause does no harm */
        }
        ret_ns[i] = run_once(f);
    }
}

/* All workers start together, when the gate's last writer is gone. */
static void start_worker(const struct floor *f, unsigned n, const int gate[2]) {
    pid_t pid = fork();
    char byte;

    if (pid < 0) {
        die("fork");
    }
    if (pid > 0) {
        return;
    }
    close(gate[1]);
    if (read(gate[0], &byte, 1) < 0) {
        die("read");
    }
    close(gate[0]);
    work(f, n);
    _exit(0);
}

static uint64_t run_workers(const struct floor *f) {
    int gate[2];
    int failed = 0;
    uint64_t start;

    if (pipe2(gate, O_CLOEXEC) < 0) {
        die("pipe2");
    }
    for (unsigned n = 0; n < f->workers; n++) {
        start_worker(f, n, gate);
    }
    start = now_ns();
    close(gate[1]);
    for (unsigned n = 0; n < f->workers; n++) {
        int status = 0;

        if (wait(&status) < 0) {
            die("wait");
        }
        failed |= status;
    }
    if (failed) {
        exit(1);
    }
    return now_ns() - start;
}

static void print_times(const struct floor *f, uint64_t elapsed_ns) {
    printf("elapsed_ns %llu\n", (unsigned long long)elapsed_ns);
    for (size_t i = 0; i < (size_t)f->jobs * f->workers; i++) {
        printf("%llu\n", (unsigned long long)f->ret_ns[i]);
    }
}

static struct floor parse(int argc, char **argv) {
    struct floor f = {.jobs = 100, .workers = 1};
    int option;

    while ((option = getopt(argc, argv, "+n:w:g:f:")) != -1) {
        switch (option) {
        case 'n':
            f.jobs = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'w':
            f.workers = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'g':
            f.gap_us = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'f':
            f.file = optarg;
            break;
        default:
            optind = argc;
            break;
        }
    }
    if (optind >= argc || f.jobs == 0 || f.workers == 0 || f.workers > 10) {
        fprintf(stderr, "usage: floor [-n RUNS_EACH] [-w WORKERS] [-g GAP_US] [-f FILE] "
                        "PROGRAM [ARGS]\n");
        exit(2);
    }
    f.argv = argv + optind;
    return f;
}

int main(int argc, char **argv) {
    struct floor f = parse(argc, argv);
    size_t size = (size_t)f.jobs * f.workers * sizeof *f.ret_ns;
    uint64_t start;

    f.ret_ns = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (f.ret_ns == MAP_FAILED) {
        die("mmap");
    }
    if (f.workers > 1) {
        print_times(&f, run_workers(&f));
        return 0;
    }
    start = now_ns();
    work(&f, 0);
    print_times(&f, now_ns() - start);
    return 0;
}
