/*
 * Closes what others made and passed along.
 *
 * Theory of operation. Who closes the last descriptor of a pipe's end takes the pipe's lock, which
 * somebody at the other end may keep, as reader.c says; what is on its way over a socket goes with
 * the socket. Nearly always others have the same descriptors still; where that is not sure, a
 * thread for each waits instead of the loop. It gets the number alone, and allocates nothing: a
 * child that is cloned meanwhile would find the allocator's lock taken for ever.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/stat.h>

#include "worker.h"

static void *close_one(void *fd) {
    (void)close((int)(intptr_t)fd);
    return NULL;
}

static bool is_file(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

void close_aside(struct fds *fds) {
    for (unsigned i = 0; i < fds->count; i++) {
        pthread_t thread;
        int fd = take_fd(&fds->fd[i]);
        if (fd < 0)
            continue;
        if (is_file(fd) || pthread_create(&thread, NULL, close_one, (void *)(intptr_t)fd))
            (void)close(fd);
        else
            (void)pthread_detach(thread);
    }
    fds->count = 0;
}
