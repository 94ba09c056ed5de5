/* O11, O13: plays with the pipes it shares with the trusted side: flags, owner signals, sizes; and
 * opens them again for the other direction. What it wrote must still arrive. */
#include "attack.h"

static void reopen(const char *name, const char *path, int flags) {
    char bytes[64];
    int fd = open(path, flags | O_NONBLOCK);
    if (fd < 0) {
        say(name, strerrorname_np(errno));
        return;
    }
    ssize_t got = flags == O_RDONLY ? read(fd, bytes, sizeof bytes) : write(fd, "z", 1);
    char line[160];
    snprintf(line, sizeof line, "%s", got < 0 ? strerrorname_np(errno) : "ok");
    dprintf(2, "%s=%s:%.*s\n", name, line, got > 0 && flags == O_RDONLY ? (int)got : 0, bytes);
    close(fd);
}

int main(void) {
    for (int fd = 0; fd < 3; fd++) {
        fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC);
        fcntl(fd, F_SETOWN, getpid());
        fcntl(fd, F_SETPIPE_SZ, 4096);
        fcntl(fd, F_SETPIPE_SZ, 1 << 20);
    }
    signal(SIGIO, SIG_IGN);
    reopen("read_stdout", "/proc/self/fd/1", O_RDONLY);
    reopen("write_stdin", "/proc/self/fd/0", O_WRONLY);
    (void)!write(1, "end", 3);
    return 0;
}
