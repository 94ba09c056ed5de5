/*
 * What a job printed: exact bytes up to the cap, stdout and stderr apart, and the order in which
 * they came. The regions are as large as the largest cap allowed but hold memory only where they
 * were written, and children of the worker do not inherit them.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/uio.h>

#include "internal.h"

enum { KEEP_BYTES = 65536 }; /* a job's output up to this stays allocated for the next */

static void *reserve(size_t bytes) {
    void *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED || madvise(region, bytes, MADV_DONTFORK) < 0)
        return NULL;
    return region;
}

/* Pipes know it since Linux 6.4. Asked of a pipe of one's own: a slot may pass what does not. */
static int find_nowait(bool *ret) {
    int ends[2];
    char byte;
    struct iovec part = {&byte, 1};
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    *ret = preadv2(ends[0], &part, 1, -1, RWF_NOWAIT) == 0 || errno != EOPNOTSUPP;
    (void)close(ends[0]);
    (void)close(ends[1]);
    return 0;
}

int output_init(struct output *output, uint64_t output_max) {
    if (find_nowait(&output->nowait) < 0)
        return -1;
    for (int i = 0; i < 2; i++)
        if (!(output->data[i] = reserve(output_max)))
            return -1;
    output->segment = reserve(SBX_MAX_SEGMENTS * sizeof *output->segment);
    return output->segment ? 0 : -1;
}

void output_begin(struct output *output, uint64_t cap, bool ordered) {
    output->cap = cap;
    output->ordered = ordered;
    output->segments = 0;
    for (int i = 0; i < 2; i++) {
        output->len[i] = 0;
        output->truncated[i] = false;
    }
}

static void note_order(struct output *output, unsigned stream, uint32_t len) {
    const uint32_t top = 1u << 31;
    uint32_t mark = stream ? top : 0;
    uint32_t *next = output->segment + output->segments;
    if (output->segments && (next[-1] & top) == mark && (next[-1] & ~top) + (uint64_t)len < top) {
        next[-1] += len;
    } else if (output->segments < SBX_MAX_SEGMENTS) {
        *next = mark | len;
        output->segments++;
    }
}

/* Never waits for more to come, whatever a process of the slot has made of the pipe's flags since
 * they were looked at; before Linux 6.4 the flags have to do. */
static ssize_t read_now(const struct output *output, int fd, void *to, size_t len) {
    struct iovec part = {to, len};
    return output->nowait ? preadv2(fd, &part, 1, -1, RWF_NOWAIT) : read(fd, to, len);
}

bool output_read(struct output *output, unsigned stream, int fd, uint64_t most) {
    for (uint64_t done = 0; done < most;) {
        uint64_t len = output->len[stream], room = output->cap - len;
        char extra;
        ssize_t n =
            room ? read_now(output, fd, output->data[stream] + len, room < most ? room : most)
                 : read_now(output, fd, &extra, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 || errno == EAGAIN; /* nothing more for now; or a pipe that broke */
        if (!room) {
            output->truncated[stream] = true;
            return false;
        }
        output->len[stream] += (uint64_t)n;
        if (output->ordered)
            note_order(output, stream, (uint32_t)n);
        done += (uint64_t)n;
    }
    return true;
}

void output_end(struct output *output) {
    for (int i = 0; i < 2; i++)
        if (output->len[i] > KEEP_BYTES)
            (void)madvise(output->data[i], output->len[i], MADV_DONTNEED);
}
