/*
 * The prepared process, up to its exec, with whatever comes instead of a job's message: the struct,
 * the blob in the message or in a memfd, descriptors that fit or do not.
 *
 * The code is the helper's. What would take this process apart is replaced (see job_world.c):
 * it stays who it is, keeps its standard descriptors, and comes back from _exit.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "job_world.h"

enum { MOST_BLOB = 65536, MOST_EXTRA = 8 };

/* A blob whose counts are near the truth, so that what is behind them is reached, too. */
static size_t make_blob(struct input *input, char *ret, size_t room) {
    struct sbx_blob header = {take_byte(input) % 8, take_byte(input) % 8, take_byte(input) % 8, 0};
    size_t len = sizeof header;
    uint8_t off = take_byte(input);
    header.stdin_len = take_byte(input);
    for (uint32_t i = 0; i < header.argc + header.envc + 1; i++) {
        size_t word = take_byte(input) % 32;
        take_bytes(input, ret + len, word);
        len += strnlen(ret + len, word);
        ret[len++] = '\0';
    }
    for (uint32_t i = 0; i < header.nfiles; i++) {
        struct sbx_blob_file file = {take_byte(input), take_byte(input) % 64 + 1u, 0644};
        file.mode = take_byte(input) * 257u;
        memcpy(ret + len, &file, sizeof file);
        take_bytes(input, ret + len + sizeof file, file.path_len - 1);
        len += sizeof file + file.path_len;
        ret[len - 1] = '\0';
        take_bytes(input, ret + len, file.data_len);
        len += file.data_len;
    }
    take_bytes(input, ret + len, header.stdin_len);
    len += header.stdin_len;
    memcpy(ret, &header, sizeof header);
    FUZZ_CHECK(len < room);
    if (off & 0x80) { /* a word of it is something else */
        uint64_t number = take_number(input);
        memcpy(ret + (off & 0x7f) % (len - 7), &number, 1u << (off & 3));
    }
    return len;
}

static size_t take_blob(struct input *input, char *ret, size_t room) {
    uint8_t kind = take_byte(input);
    if (kind & 1)
        return make_blob(input, ret, room);
    size_t len = input->left < room ? input->left : room;
    take_bytes(input, ret, len);
    return len;
}

static int to_memfd(const char *blob, size_t len) {
    int fd = memfd_create("blob", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, blob, len) == (ssize_t)len);
    return fd;
}

/* From memory of exactly its size, where the sanitizer sees a read beyond the end. */
static void parse_exactly(const char *blob, size_t len) {
    struct job_spec spec;
    char *copy = malloc(len ? len : 1);
    FUZZ_CHECK(copy);
    memcpy(copy, blob, len);
    if (blob_parse(copy, len, &spec) == 0) {
        FUZZ_CHECK(spec.stdin_data + spec.stdin_len == copy + len);
        world_stage(&spec);
    }
    free(copy);
}

static void send_job(int sock, struct input *input) {
    static struct {
        struct sbx_job job;
        char blob[MOST_BLOB];
    } message;
    struct fds fds = {0};
    uint8_t how = take_byte(input), extra = take_byte(input);
    memset(&message.job, 0, sizeof message.job);
    message.job.type = SBX_MSG_JOB;
    message.job.flags = take_byte(input);
    message.job.fd_mask = take_byte(input);
    message.job.limits.file_size_bytes = take_number(input);
    size_t len = take_blob(input, message.blob, sizeof message.blob);
    parse_exactly(message.blob, len);
    if (how & 1) { /* in a file, wherever that one stands */
        fds.fd[fds.count++] = to_memfd(message.blob, len);
        len = how & 2 ? len : 0;
    }
    while (fds.count < MAX_FDS && extra-- % 8)
        fds.fd[fds.count++] = fuzz_open(extra);
    struct iovec part = {&message, sizeof message.job + len};
    if (how & 4)
        part.iov_len = len % (sizeof message.job + 1); /* cut off */
    (void)message_send(sock, &part, 1, &fds);
    fds_close(&fds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    struct job_start start = {0};
    int pair[2];
    unsigned before = world_begin();
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    send_job(pair[1], &input);
    (void)shutdown(pair[1], SHUT_WR);
    if (world_run(pair[0], &start)) {
        FUZZ_CHECK(start.argv && start.argv[0] && start.env);
        size_t bytes = 0;
        for (char **list = start.argv; *list; list++)
            bytes += strlen(*list);
        for (char **list = start.env; *list; list++)
            bytes += strlen(*list);
        FUZZ_CHECK(bytes < 2 * MOST_BLOB);
    }
    job_release();
    world_end(before);
    return 0;
}
