/*
 * What a job printed: exact bytes up to the cap, stdout and stderr apart, and the order in which
 * they came. The two regions are as large as the largest cap allowed but hold memory only where
 * they were written, and children of the worker do not inherit them. They are one memfd, mapped:
 * what is too large for a message is given away as it is. To copy it would take the loop some
 * 0.4 ms for each MiB; to unmap it takes 0.04.
 */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "internal.h"

enum {
    KEEP_BYTES = 65536, /* a job's output up to this stays allocated for the next */
    SEGMENT_BYTES = SBX_MAX_SEGMENTS * sizeof(uint32_t),
    ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
};

static void *map_alone(uint64_t bytes, int flags, int fd) {
    void *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (region == MAP_FAILED)
        return NULL;
    if (madvise(region, bytes, MADV_DONTFORK) == 0)
        return region;
    (void)munmap(region, bytes);
    return NULL;
}

/* A signal comes from the attempt. */
static bool file_may_have(uint64_t bytes) {
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur >= bytes;
}

static void unmap_data(struct output *output) {
    if (output->data[0])
        (void)munmap(output->data[0], 2 * output->stride);
    close_fd(&output->fd);
}

/* Leaves the output as it was where it fails. Under a limit for files that nobody could raise,
 * what is too large for a message cannot be had. */
static int renew(struct output *output) {
    const uint64_t bytes = 2 * output->stride;
    const bool file = file_may_have(bytes + SEGMENT_BYTES);
    autoclose int fd = file ? memfd_create("output", MFD_CLOEXEC) : -1;
    if (file && (fd < 0 || ftruncate(fd, (off_t)bytes) < 0))
        return -1;
    char *data = file ? map_alone(bytes, MAP_SHARED, fd) : map_alone(bytes, ANONYMOUS, -1);
    if (!data)
        return -1;
    unmap_data(output);
    output->fd = take_fd(&fd);
    output->data[0] = data;
    output->data[1] = data + output->stride;
    return 0;
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
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *output = (struct output){.fd = -1, .stride = (output_max + page - 1) / page * page};
    output->segment = map_alone(SEGMENT_BYTES, ANONYMOUS, -1);
    if (!output->segment || find_nowait(&output->nowait) < 0)
        return -1;
    return renew(output);
}

void output_begin(struct output *output, uint64_t cap, bool ordered) {
    output->cap = cap;
    output->ordered = ordered;
    output->segments = 0;
    output->error = 0;
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
        if (n < 0 && errno != EAGAIN)
            output->error = errno; /* no page for it, or no pipe */
        if (n <= 0)
            return !output->error;
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

static void empty(struct output *output) { output->len[0] = output->len[1] = output->segments = 0; }

int output_give_away(struct output *output) {
    const size_t order = output->segments * sizeof *output->segment;
    int fd = output->fd;
    errno = EFBIG;
    if (fd < 0 || pwrite(fd, output->segment, order, (off_t)(2 * output->stride)) != (ssize_t)order)
        return -1;
    output->fd = -1;
    if (renew(output) < 0) {
        output->fd = fd;
        return -1;
    }
    empty(output);
    return fd;
}

void output_end(struct output *output) {
    const int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const uint64_t bytes = 2 * output->stride;
    if (output->len[0] <= KEEP_BYTES && output->len[1] <= KEEP_BYTES)
        ;
    else if (output->fd < 0)
        (void)madvise(output->data[0], bytes, MADV_DONTNEED);
    else
        (void)fallocate(output->fd, how, 0, (off_t)(bytes + SEGMENT_BYTES));
    empty(output);
}

void output_free(struct output *output) {
    unmap_data(output);
    if (output->segment)
        (void)munmap(output->segment, SEGMENT_BYTES);
    *output = (struct output){.fd = -1};
}
