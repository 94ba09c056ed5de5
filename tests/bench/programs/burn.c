/*
 * burn user|system|threads|children|short MILLISECONDS: uses about so much CPU time in the way
 * named, then prints in nanoseconds what getrusage says it used, children included.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t ns_of(struct timeval t) {
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_usec * 1000U;
}

static uint64_t used_ns(int who) {
    struct rusage r;

    getrusage(who, &r);
    return ns_of(r.ru_utime) + ns_of(r.ru_stime);
}

static void burn_user(uint64_t ns) {
    volatile uint64_t x = 1;

    while (used_ns(RUSAGE_THREAD) < ns) {
        for (int i = 0; i < 20000; i++) {
            x = x * 6364136223846793005U + 1;
        }
    }
}

static void burn_system(uint64_t ns) {
    while (used_ns(RUSAGE_THREAD) < ns) {
        for (int i = 0; i < 200; i++) {
            syscall(SYS_getppid);
        }
    }
}

static void *thread(void *ns) {
    burn_user(*(uint64_t *)ns);
    return NULL;
}

static int burn_threads(uint64_t ns) {
    pthread_t threads[4];
    uint64_t each = ns / 4;

    for (int i = 0; i < 4; i++) {
        if (pthread_create(&threads[i], NULL, thread, &each) != 0) {
            return 1;
        }
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    return 0;
}

static int burn_children(int children, uint64_t each_ns) {
    for (int i = 0; i < children; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            burn_user(each_ns);
            _exit(0);
        }
        if (pid < 0 || waitpid(pid, NULL, 0) < 0) {
            return 1;
        }
    }
    return 0;
}

static int burn(const char *how, uint64_t ns) {
    if (strcmp(how, "user") == 0) {
        burn_user(ns);
    } else if (strcmp(how, "system") == 0) {
        burn_system(ns);
    } else if (strcmp(how, "threads") == 0) {
        return burn_threads(ns);
    } else if (strcmp(how, "children") == 0) {
        return burn_children(4, ns / 4);
    } else if (strcmp(how, "short") == 0) {
        return burn_children(100, ns / 100);
    } else {
        return 2;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 3 || burn(argv[1], strtoull(argv[2], NULL, 10) * 1000000U) != 0) {
        return 2;
    }
    printf("%llu\n", (unsigned long long)(used_ns(RUSAGE_SELF) + used_ns(RUSAGE_CHILDREN)));
    return 0;
}
