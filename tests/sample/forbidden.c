/*
 * Tries one thing that a sandboxed program must not be able to do, and says what came of it.
 * Exit status: 0 if it worked, 1 if it was refused (the reason is on stdout), 2 for a wrong name.
 * What only a limit can stop never ends by itself.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MANY_PROCESSES = 500 };

static int verdict(int result) {
    puts(result < 0 ? strerror(errno) : "it worked");
    return result < 0;
}

static int read_shadow(void) { return verdict(open("/etc/shadow", O_RDONLY)); }

static int write_usr(void) { return verdict(open("/usr/bin/planted", O_WRONLY | O_CREAT, 0755)); }

static int kill_init(void) { return verdict(kill(1, SIGKILL)); }

static int connect_out(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || inet_pton(AF_INET, "192.0.2.1", &address.sin_addr) != 1) {
        return verdict(-1);
    }
    return verdict(connect(fd, (struct sockaddr *)&address, sizeof address));
}

static int trace(void) { return verdict((int)ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }

static int mount_something(void) { return verdict(mount("none", "/tmp", "tmpfs", 0, NULL)); }

static int new_namespace(void) { return verdict(unshare(CLONE_NEWUSER | CLONE_NEWNS)); }

static int become_root(void) { return verdict(setuid(0)); }

static int fork_bomb(void) {
    for (int n = 1; n < MANY_PROCESSES; n++) {
        pid_t pid = fork();

        if (pid < 0) {
            printf("fork %d: %s\n", n, strerror(errno));
            return 1;
        }
        if (pid == 0) {
            pause();
            _exit(0);
        }
    }
    printf("%d processes were started\n", MANY_PROCESSES);
    return 0;
}

static int allocate(void) {
    for (;;) {
        char *p = malloc(1 << 20);

        if (!p) {
            return verdict(-1);
        }
        memset(p, 1, 1 << 20);
    }
}

static int loop(void) {
    volatile unsigned on = 1;

    while (on) {
        on |= 2;
    }
    return 0;
}

static int wait_forever(void) {
    while (pause() < 0) {
    }
    return 0;
}

static int print(void) {
    while (puts("nobody will ever read all of this") >= 0) {
    }
    return 0;
}

static const struct {
    const char *name;
    int (*attempt)(void);
} attempts[] = {
    {"shadow", read_shadow},    {"usr", write_usr},    {"kill", kill_init},
    {"connect", connect_out},   {"ptrace", trace},     {"mount", mount_something},
    {"unshare", new_namespace}, {"root", become_root}, {"fork", fork_bomb},
    {"memory", allocate},       {"loop", loop},        {"wait", wait_forever},
    {"print", print},
};

int main(int argc, char **argv) {
    for (unsigned i = 0; argc > 1 && i < sizeof attempts / sizeof *attempts; i++) {
        if (strcmp(argv[1], attempts[i].name) == 0) {
            return attempts[i].attempt();
        }
    }
    return 2;
}
