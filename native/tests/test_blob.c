/*
 * The blob: what a client wrote, parsed by the prepared process. Each blob lies in memory of
 * exactly its size, so that AddressSanitizer sees a read beyond it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "place.h"

struct builder {
    char data[4096];
    size_t len;
};

static void add(struct builder *builder, const void *data, size_t len) {
    REQUIRE(builder->len + len <= sizeof builder->data);
    memcpy(builder->data + builder->len, data, len);
    builder->len += len;
}

static void add_string(struct builder *builder, const char *text) {
    add(builder, text, strlen(text) + 1);
}

static void add_file(struct builder *builder, const char *path, const char *data, uint32_t mode) {
    const struct sbx_blob_file file = {
        .data_len = strlen(data), .path_len = (uint32_t)strlen(path) + 1, .mode = mode};
    add(builder, &file, sizeof file);
    add_string(builder, path);
    add(builder, data, strlen(data));
}

static struct builder sample(void) {
    struct builder builder = {.len = 0};
    add(&builder, &(struct sbx_blob){.argc = 2, .envc = 1, .nfiles = 2, .stdin_len = 5},
        sizeof(struct sbx_blob));
    add_string(&builder, "/bin/cat");
    add_string(&builder, "");
    add_string(&builder, "A=b");
    add_string(&builder, "dir");
    add_file(&builder, "dir/one", "1", 0644);
    add_file(&builder, "two", "", 0755);
    add(&builder, "input", 5);
    return builder;
}

/* Parses a copy that ends where the blob ends. */
static int parse(const char *data, size_t len, struct job_spec *ret, char **ret_copy) {
    *ret_copy = malloc(len ? len : 1);
    REQUIRE(*ret_copy);
    memcpy(*ret_copy, data, len);
    errno = 0;
    return blob_parse(*ret_copy, len, ret);
}

static void a_whole_blob_is_found(void) {
    struct builder builder = sample();
    struct job_spec spec;
    char *copy;
    CHECK_EQ(parse(builder.data, builder.len, &spec, &copy), 0);
    CHECK_EQ(spec.argc, 2);
    CHECK_EQ(spec.envc, 1);
    CHECK_EQ(spec.nfiles, 2);
    CHECK_EQ(spec.stdin_len, 5);
    CHECK(!strcmp(spec.strings, "/bin/cat"));
    CHECK(!strcmp(spec.cwd, "dir"));
    CHECK(!memcmp(spec.stdin_data, "input", 5));
    free(copy);
}

static void every_shorter_or_longer_blob_is_refused(void) {
    struct builder builder = sample();
    struct job_spec spec;
    char *copy;
    for (size_t len = 0; len < builder.len; len++) {
        CHECK_EQ(parse(builder.data, len, &spec, &copy), -1);
        CHECK_EQ(errno, EBADMSG);
        free(copy);
    }
    add(&builder, "", 1);
    CHECK_EQ(parse(builder.data, builder.len, &spec, &copy), -1);
    free(copy);
}

static void declared_sizes_are_not_believed(void) {
    static const struct sbx_blob headers[] = {
        {.argc = ~0u, .envc = 1, .nfiles = 2, .stdin_len = 5},
        {.argc = 2, .envc = ~0u, .nfiles = 2, .stdin_len = 5},
        {.argc = ~0u, .envc = ~0u, .nfiles = ~0u, .stdin_len = ~0u},
        {.argc = 2, .envc = 1, .nfiles = ~0u, .stdin_len = 5},
        {.argc = 2, .envc = 1, .nfiles = 2, .stdin_len = ~0u},
        {.argc = 2, .envc = 1, .nfiles = 2, .stdin_len = 6},
    };
    struct job_spec spec;
    char *copy;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct builder builder = sample();
        memcpy(builder.data, &headers[i], sizeof headers[i]);
        CHECK_EQ(parse(builder.data, builder.len, &spec, &copy), -1);
        free(copy);
    }
}

static void file_sizes_are_not_believed(void) {
    static const struct sbx_blob_file files[] = {
        {.data_len = UINT64_MAX, .path_len = 2}, {.data_len = 2, .path_len = 2},
        {.data_len = 0, .path_len = 0},          {.data_len = 0, .path_len = ~0u},
        {.data_len = 0, .path_len = 1}, /* the path is not terminated there */
    };
    struct job_spec spec;
    char *copy;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct builder builder = {.len = 0};
        add(&builder, &(struct sbx_blob){.argc = 1, .nfiles = 1}, sizeof(struct sbx_blob));
        add_string(&builder, "x");
        add_string(&builder, "");
        add(&builder, &files[i], sizeof files[i]);
        add_string(&builder, "f");
        add(&builder, "d", 1);
        CHECK_EQ(parse(builder.data, builder.len, &spec, &copy), -1);
        free(copy);
    }
}

/* Walks all that the parser said is there; the sanitizer sees a step too far. */
static size_t walk(const struct job_spec *spec) {
    size_t sum = strlen(spec->cwd) + spec->stdin_len;
    const char *at = spec->strings;
    for (uint64_t i = 0; i < (uint64_t)spec->argc + spec->envc; i++) {
        sum += strlen(at);
        at += strlen(at) + 1;
    }
    for (uint32_t i = 0; i < spec->stdin_len; i++)
        sum += (unsigned char)spec->stdin_data[i];
    return sum;
}

static void random_bytes_are_parsed_or_refused(void) {
    unsigned parsed = 0;
    size_t sum = 0;
    srandom(20261122); /* the same bytes in every run */
    for (unsigned round = 0; round < 60000; round++) {
        struct builder builder = sample();
        struct job_spec spec;
        char *copy;
        unsigned changes = (unsigned)random() % 4;
        if (round % 3 == 0)
            builder.len = (size_t)random() % builder.len;
        for (unsigned i = 0; i < changes && builder.len; i++)
            builder.data[(size_t)random() % builder.len] = (char)(random() % 5 ? random() : 0);
        if (parse(builder.data, builder.len, &spec, &copy) == 0) {
            parsed++;
            sum += walk(&spec);
        }
        free(copy);
    }
    CHECK(parsed > 1000); /* else the fuzzing has never reached the end of the parser */
    CHECK(sum > 0);
}

/* ---- stage_files, in a directory of its own ---- */

static int stage_one(const struct place *place, const char *path, const char *data) {
    struct builder builder = {.len = 0};
    struct job_spec spec;
    char *copy;
    add(&builder, &(struct sbx_blob){.argc = 1, .nfiles = 1}, sizeof(struct sbx_blob));
    add_string(&builder, "x");
    add_string(&builder, "");
    add_file(&builder, path, data, 0640);
    REQUIRE(parse(builder.data, builder.len, &spec, &copy) == 0);
    int result = stage_files(place->work, &spec);
    free(copy);
    return result;
}

static void files_are_written_with_their_directories(void) {
    struct place place = place_make();
    struct stat st = {0};
    char data[8] = "";
    CHECK_EQ(stage_one(&place, "a/b/c", "hello"), 0);
    int fd = openat(place.work, "a/b/c", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &st) == 0 && read(fd, data, sizeof data - 1) == 5);
    CHECK(!strcmp(data, "hello"));
    CHECK_EQ(st.st_mode & 07777, 0640);
    close_fd(&fd);
    place_remove(&place);
}

static void nothing_is_written_outside(void) {
    struct place place = place_make();
    struct stat st;
    char work[80], outside[80];
    (void)snprintf(work, sizeof work, "%s/work", place.path);
    (void)snprintf(outside, sizeof outside, "%s/outside", place.path);
    REQUIRE(symlinkat(place.path, place.work, "link") == 0);
    REQUIRE(symlinkat(outside, place.work, "planted") == 0);
    static const char *const names[] = {
        "../outside",   "a/../../outside",         "link/outside",   "planted",
        "./../outside", "a/../../work/../outside", "link/../outside"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK_EQ(stage_one(&place, names[i], "x"), -1);
        CHECK(stat(outside, &st) < 0 && errno == ENOENT);
    }
    CHECK_EQ(stage_one(&place, outside, "x"), -1);
    CHECK(stat(outside, &st) < 0);
    place_remove(&place);
}

static void odd_names_are_errors_or_files(void) {
    struct place place = place_make();
    char component[300], path[1100];
    memset(component, 'n', sizeof component - 1);
    component[sizeof component - 1] = '\0';
    CHECK_EQ(stage_one(&place, component, "x"), -1);
    CHECK_EQ(errno, ENAMETOOLONG);
    (void)snprintf(path, sizeof path, "%s/x", component);
    CHECK_EQ(stage_one(&place, path, "x"), -1);
    CHECK_EQ(errno, ENAMETOOLONG);
    CHECK_EQ(stage_one(&place, "", "x"), -1);
    CHECK_EQ(stage_one(&place, ".", "x"), -1);
    CHECK_EQ(stage_one(&place, "a/", "x"), -1);
    CHECK_EQ(stage_one(&place, "new\nline \xff", "x"), 0);
    CHECK_EQ(stage_one(&place, "file", "x"), 0);
    CHECK_EQ(stage_one(&place, "file/below", "x"), -1);
    CHECK_EQ(errno, ENOTDIR);
    place_remove(&place);
}

TEST_MAIN(TEST(a_whole_blob_is_found), TEST(every_shorter_or_longer_blob_is_refused),
          TEST(declared_sizes_are_not_believed), TEST(file_sizes_are_not_believed),
          TEST(random_bytes_are_parsed_or_refused), TEST(files_are_written_with_their_directories),
          TEST(nothing_is_written_outside), TEST(odd_names_are_errors_or_files))
