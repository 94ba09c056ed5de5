/* The patterns of output files, and the stream of collected files. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "place.h"

static void patterns_match_as_documented(void) {
    static const struct {
        const char *pattern, *path;
        bool match;
    } cases[] = {
        {"out.txt", "out.txt", true},
        {"out.txt", "out.txt2", false},
        {"out.txt", "xout.txt", false},
        {"*.txt", "a.txt", true},
        {"*.txt", "dir/a.txt", false},
        {"*", "", true},
        {"*", "a/b", false},
        {"**", "a/b/c", true},
        {"**/*.o", "a.o", true},
        {"**/*.o", "a/b/c.o", true},
        {"a/**/z", "a/z", true},
        {"a/**/z", "a/b/c/z", true},
        {"a/**/z", "a/bz", false},
        {"?", "a", true},
        {"?", "/", false},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"[abc]", "b", true},
        {"[abc]", "d", false},
        {"[!abc]", "d", true},
        {"[^abc]", "a", false},
        {"[a-c]x", "bx", true},
        {"[a-c]x", "dx", false},
        {"[!a]b", "/b", false},
        {"[]a]", "]", true},
        {"[a", "a", false},
        {"[", "[", false},
        {"[a-", "a", false},
        {"", "", true},
        {"", "a", false},
        {"a*b*c", "axxbyyc", true},
        {"a*b*c", "axxbyy", false},
        {"**/", "a", false},
        {"a**/z", "az", false},
        {"a**/z", "axx/z", true},
        {"*/**/*.o", "a/b/c/d.o", true},
        {"**/b*/**/d", "a/b/bc/x/d", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (glob_match(cases[i].pattern, cases[i].path) != cases[i].match) {
            printf("'%s' and '%s': ", cases[i].pattern, cases[i].path);
            CHECK_EQ(glob_match(cases[i].pattern, cases[i].path), cases[i].match);
        }
}

/* Patterns and paths in memory of exactly their size: the sanitizer sees a read beyond the end. */
static void random_patterns_end(void) {
    static const char alphabet[] = "ab/*?[]!-^";
    unsigned matches = 0;
    srandom(20261122);
    for (unsigned round = 0; round < 200000; round++) {
        char *text[2];
        for (int i = 0; i < 2; i++) {
            size_t len = (size_t)random() % 9;
            text[i] = malloc(len + 1);
            REQUIRE(text[i]);
            for (size_t n = 0; n < len; n++)
                text[i][n] = alphabet[(size_t)random() % (i ? 3 : sizeof alphabet - 1)];
            text[i][len] = '\0';
        }
        matches += glob_match(text[0], text[1]);
        free(text[0]);
        free(text[1]);
    }
    CHECK(matches > 1000);
}

/* Backtracking over all stars would take longer than anybody has. */
static void many_stars_end_soon(void) {
    char pattern[256] = "**/", path[4001];
    for (size_t i = 3; i < 200; i++)
        pattern[i] = "*a"[i % 2];
    strcpy(pattern + 200, "**b*a*a*a*b");
    memset(path, 'a', sizeof path - 1);
    for (size_t i = 250; i < sizeof path; i += 250)
        path[i] = '/';
    path[sizeof path - 1] = '\0';
    CHECK(!glob_match(pattern, path));
    CHECK(
        glob_match("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

/* A file without a name, for the stream. */
static int make_stream(void) {
    int stream = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    REQUIRE(stream >= 0);
    return stream;
}

static void write_file(const struct place *place, const char *name, const char *data) {
    int fd = openat(place->work, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0750);
    REQUIRE(fd >= 0 && write(fd, data, strlen(data)) == (ssize_t)strlen(data));
    close_fd(&fd);
}

/* Reads the next entry of the stream; path and data are NUL-terminated. */
static struct sbx_collected next(int stream, char path[64], char data[64]) {
    struct sbx_collected entry;
    REQUIRE(read(stream, &entry, sizeof entry) == (ssize_t)sizeof entry);
    REQUIRE(entry.path_len < 64 && entry.data_len < 64);
    REQUIRE(read(stream, path, entry.path_len) == (ssize_t)entry.path_len);
    REQUIRE(read(stream, data, (size_t)entry.data_len) == (ssize_t)entry.data_len);
    path[entry.path_len] = '\0';
    data[entry.data_len] = '\0';
    return entry;
}

static int collect(const struct place *place, int stream, const char *pattern, uint64_t limit) {
    const char *const patterns[] = {pattern, NULL};
    int result = collect_files(place->work, stream, patterns, limit);
    REQUIRE(lseek(stream, 0, SEEK_SET) == 0);
    return result;
}

static void regular_files_are_copied(void) {
    struct place place = place_make();
    autoclose int stream = make_stream();
    char path[64], data[64];
    REQUIRE(mkdirat(place.work, "d", 0755) == 0);
    write_file(&place, "d/result", "42\n");
    write_file(&place, "other", "no");
    CHECK_EQ(collect(&place, stream, "d/*", 1 << 20), 0);
    struct sbx_collected entry = next(stream, path, data);
    CHECK(!strcmp(path, "d/result") && !strcmp(data, "42\n"));
    CHECK_EQ(entry.mode, 0750);
    entry = next(stream, path, data);
    CHECK_EQ(entry.path_len, 0);
    CHECK_EQ(entry.mode, 0);
    place_remove(&place);
}

static void links_and_devices_are_not(void) {
    struct place place = place_make();
    autoclose int stream = make_stream();
    char path[64], data[64];
    REQUIRE(symlinkat("/etc/passwd", place.work, "passwd") == 0);
    REQUIRE(symlinkat("/etc", place.work, "etc") == 0);
    REQUIRE(symlinkat("/dev/zero", place.work, "zero") == 0);
    REQUIRE(mkfifoat(place.work, "fifo", 0644) == 0);
    CHECK_EQ(collect(&place, stream, "**", 1 << 20), 0);
    CHECK_EQ(next(stream, path, data).path_len, 0);
    place_remove(&place);
}

static void what_is_too_large_is_left_out(void) {
    struct place place = place_make();
    autoclose int stream = make_stream();
    char path[64], data[64];
    write_file(&place, "large", "0123456789012345678901234567890123456789");
    int fd = openat(place.work, "sparse", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    REQUIRE(fd >= 0 && ftruncate(fd, 1ll << 40) == 0);
    close_fd(&fd);
    CHECK_EQ(collect(&place, stream, "**", 40), 0);
    struct sbx_collected entry = next(stream, path, data);
    CHECK_EQ(entry.path_len, 0);
    CHECK_EQ(entry.mode, EFBIG);
    place_remove(&place);
}

TEST_MAIN(TEST(patterns_match_as_documented), TEST(random_patterns_end), TEST(many_stars_end_soon),
          TEST(regular_files_are_copied), TEST(links_and_devices_are_not),
          TEST(what_is_too_large_is_left_out))
