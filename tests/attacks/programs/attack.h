/*
 * What the attack programs share: one line "name=outcome" for every attempt, written at once, so
 * that it is there when the program is killed in the next instruction. The outcome is "ok" or the
 * name of the errno; the tests compare it with what the sandbox promises.
 */
#ifndef ATTACK_H
#define ATTACK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void say(const char *name, const char *outcome) {
    dprintf(STDOUT_FILENO, "%s=%s\n", name, outcome);
}

static inline void say_number(const char *name, long long number) {
    dprintf(STDOUT_FILENO, "%s=%lld\n", name, number);
}

/* For a call that returned `result` and left its error in errno. */
static inline void say_result(const char *name, long result) {
    say(name, result < 0 ? strerrorname_np(errno) : "ok");
}

#define TRY(name, call) say_result(name, (long)(call))

static inline uint64_t clock_ns(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Uses the processor for so much time of this thread. */
static inline void burn_ns(uint64_t duration) {
    uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + duration;
    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end) {
    }
}

static inline void touch(void *memory, size_t size) {
    for (size_t i = 0; i < size; i += 4096) {
        ((volatile char *)memory)[i] = 1;
    }
}

#endif
