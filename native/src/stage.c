/*
 * The blob: finding its parts, and writing the input files. Runs in the prepared process, without
 * privilege; every length is checked against what is there, as if the client had written it.
 */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "internal.h"

/* What is left of the blob. */
struct reader {
    const char *at;
    size_t left;
};

static const char *take(struct reader *reader, size_t len) {
    if (len > reader->left)
        return NULL;
    const char *from = reader->at;
    reader->at += len;
    reader->left -= len;
    return from;
}

static const char *take_string(struct reader *reader) {
    const char *end = memchr(reader->at, '\0', reader->left);
    return end ? take(reader, (size_t)(end - reader->at) + 1) : NULL;
}

static const char *take_file(struct reader *reader, struct sbx_blob_file *ret) {
    const char *header = take(reader, sizeof *ret);
    if (!header)
        return NULL;
    memcpy(ret, header, sizeof *ret); /* the blob is packed: nothing in it is aligned */
    const char *path = take(reader, ret->path_len);
    if (!path || !ret->path_len || path[ret->path_len - 1] || ret->data_len > reader->left)
        return NULL;
    return path;
}

static int malformed(void) {
    errno = EBADMSG;
    return -1;
}

int blob_parse(const char *blob, size_t len, struct job_spec *ret) {
    struct reader reader = {blob, len};
    struct sbx_blob header;
    struct sbx_blob_file file;
    const char *start = take(&reader, sizeof header);
    if (!start)
        return malformed();
    memcpy(&header, start, sizeof header);
    *ret = (struct job_spec){header.argc, header.envc, header.nfiles, header.stdin_len,
                             reader.at,   NULL,        NULL,          NULL};
    for (uint64_t i = 0; i < (uint64_t)header.argc + header.envc; i++)
        if (!take_string(&reader))
            return malformed();
    if (!(ret->cwd = take_string(&reader)))
        return malformed();
    ret->files = reader.at;
    for (uint32_t i = 0; i < header.nfiles; i++)
        if (!take_file(&reader, &file) || !take(&reader, (size_t)file.data_len))
            return malformed();
    ret->stdin_data = take(&reader, header.stdin_len);
    return ret->stdin_data && !reader.left ? 0 : malformed();
}

static int open_beneath(int dir, const char *name, uint64_t flags, uint64_t mode) {
    const struct open_how how = {.flags = flags | O_CLOEXEC | O_NOFOLLOW,
                                 .mode = mode,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                            RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    return sys_openat2(dir, name, &how);
}

static int make_directory(int dir, const char *name) {
    return mkdirat(dir, name, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

/* Opens the directory path is in, making what is missing. *ret_name is the last component. */
static int open_parent(int work, const char *path, const char **ret_name) {
    autoclose int dir = fcntl(work, F_DUPFD_CLOEXEC, 3);
    const char *slash;
    while (dir >= 0 && (slash = strchr(path, '/'))) {
        char name[256];
        size_t len = (size_t)(slash - path);
        if (len >= sizeof name) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        if (make_directory(dir, name) < 0)
            return -1;
        int next = open_beneath(dir, name, O_DIRECTORY | O_RDONLY, 0);
        close_fd(&dir);
        dir = next;
        path = slash + 1;
    }
    *ret_name = path;
    return take_fd(&dir);
}

static int write_all(int fd, const char *data, size_t len) {
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n <= 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_file(int work, const char *path, const struct sbx_blob_file *file,
                      const char *data) {
    const char *name;
    autoclose int parent = open_parent(work, path, &name);
    if (parent < 0)
        return -1;
    autoclose int fd = open_beneath(parent, name, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (fd < 0 || write_all(fd, data, (size_t)file->data_len) < 0)
        return -1;
    return fchmod(fd, file->mode & 0777);
}

int stage_files(int work, const struct job_spec *spec) {
    /* blob_parse has walked the same bytes and knows where they end. */
    struct reader reader = {spec->files, SIZE_MAX};
    for (uint32_t i = 0; i < spec->nfiles; i++) {
        struct sbx_blob_file file;
        const char *path = take_file(&reader, &file);
        const char *data = path ? take(&reader, (size_t)file.data_len) : NULL;
        if (!data || write_file(work, path, &file, data) < 0)
            return -1;
    }
    return 0;
}
