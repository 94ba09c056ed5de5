/*
 * Reads what a job prints while it runs.
 *
 * Theory of operation. Who reads a pipe takes its lock, whatever the flags say (pipe_read() in the
 * kernel's fs/pipe.c), and who writes to it keeps the lock while it copies from its own memory:
 * from a page that is not there yet, for as long as a job can keep its writer from a processor. The
 * loop must not wait for that. So it reads a pipe only when everything that could write to it is
 * dead; what comes before is read by a thread of the slot's own, which is made when it is needed
 * first. From reader_start() to reader_stop() the slot's output is the thread's.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "worker.h"

enum { TURN_BYTES = 256 << 10, STACK_BYTES = 64 << 10 };

/* Until the loop wants the output back. */
static void read_output(struct reader *reader) {
    struct pollfd ready[3] = {
        {reader->fd[0], POLLIN, 0}, {reader->fd[1], POLLIN, 0}, {reader->stop, POLLIN, 0}};
    for (;;) {
        if (poll(ready, 3, -1) < 0 && errno != EINTR)
            return;
        if (ready[2].revents)
            return;
        for (unsigned i = 0; i < 2; i++) {
            if (!ready[i].revents || output_read(reader->output, i, reader->fd[i], TURN_BYTES))
                continue;
            ready[0].fd = ready[1].fd = -1; /* the job is going to be killed for it */
            __atomic_store_n(&reader->full, true, __ATOMIC_RELEASE);
            (void)eventfd_write(reader->tell, 1);
            break;
        }
    }
}

static void *run(void *argument) {
    struct reader *reader = argument;
    for (;;) {
        while (sem_wait(&reader->go) < 0)
            ;
        read_output(reader);
        (void)sem_post(&reader->done);
    }
    return NULL;
}

static int make_thread(struct reader *reader) {
    pthread_attr_t attributes;
    pthread_t thread;
    errno = pthread_attr_init(&attributes);
    if (errno)
        return -1;
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    errno = pthread_create(&thread, &attributes, run, reader);
    reader->exists = !errno;
    (void)pthread_attr_destroy(&attributes);
    return reader->exists ? 0 : -1;
}

int reader_init(struct reader *reader) {
    *reader = (struct reader){.stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (reader->stop < 0 || sem_init(&reader->go, 0, 0) < 0)
        return -1;
    return sem_init(&reader->done, 0, 0);
}

int reader_start(struct reader *reader, struct output *output, const int fd[2], int tell) {
    if (!reader->exists && make_thread(reader) < 0)
        return -1;
    reader->output = output;
    reader->fd[0] = fd[0];
    reader->fd[1] = fd[1];
    reader->tell = tell;
    reader->full = false;
    reader->works = true;
    return sem_post(&reader->go);
}

void reader_stop(struct reader *reader) {
    eventfd_t value;
    if (!reader->works)
        return;
    (void)eventfd_write(reader->stop, 1);
    while (sem_wait(&reader->done) < 0)
        ;
    (void)eventfd_read(reader->stop, &value);
    reader->works = false;
}

bool reader_is_full(const struct reader *reader) {
    return reader->works && __atomic_load_n(&reader->full, __ATOMIC_ACQUIRE);
}
