/*
 * Collects output files: walks the work directory and copies the regular files whose names match.
 *
 * Runs as the prepared process of a further job in the held slot, when nothing of the program is
 * left, without privilege and inside the sandbox: a planted link could at worst show it what the
 * program could have read itself, and it follows none.
 */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "internal.h"

enum { MAX_DEPTH = 64, MAX_PATH_LEN = 4096 };

struct walk {
    int out;
    const char *const *patterns;
    uint64_t left; /* bytes that may still be copied */
    int error;     /* the first thing that kept a file from being copied */
    char path[MAX_PATH_LEN];
};

static bool match_class(const char **pattern, char c) {
    const char *p = *pattern + 1;
    bool negated = *p == '!' || *p == '^', found = false;
    p += negated;
    do {
        if (!*p)
            return false;
        char low = *p++, high = low;
        if (*p == '-' && p[1] && p[1] != ']') {
            high = p[1];
            p += 2;
        }
        found |= low <= c && c <= high;
    } while (*p != ']');
    *pattern = p + 1;
    return found != negated && c != '/';
}

/* One character or class; *pattern is moved behind it. */
static bool match_one(const char **pattern, char c) {
    if (!c || !**pattern)
        return false;
    if (**pattern == '[')
        return match_class(pattern, c);
    bool same = **pattern == '?' ? c != '/' : **pattern == c;
    (*pattern)++;
    return same;
}

/* Where to go on when the rest does not match: the pattern behind a star, and where in the path
 * that star ends. */
struct retry {
    const char *pattern, *path;
};

/* The star takes one more character, or one more directory. Returns false where there is none. */
static bool widen(struct retry *retry, bool directory) {
    while (directory && *retry->path && *retry->path != '/')
        retry->path++;
    return *retry->path++ != '\0';
}

/*
 * '*' and '?' stop at '/', '**' does not; a whole directory "**" also stands for none.
 *
 * Only the last star of each kind is ever widened: what an earlier one could take besides, the
 * later one takes as well. So the time is bounded by a power of the lengths, whatever the pattern.
 */
bool glob_match(const char *pattern, const char *path) {
    const char *const start = pattern;
    struct retry star = {NULL, NULL}, deep = {NULL, NULL};
    bool directories = false;
    for (;;) {
        if (*pattern == '*' && pattern[1] == '*') {
            directories = pattern[2] == '/' && (pattern == start || pattern[-1] == '/');
            pattern += 2 + directories;
            deep = (struct retry){pattern, path};
            star.pattern = NULL;
        } else if (*pattern == '*') {
            star = (struct retry){++pattern, path};
        } else if (!*pattern && !*path) {
            return true;
        } else if (match_one(&pattern, *path)) {
            path++;
        } else if (star.pattern && *star.path != '/' && widen(&star, false)) {
            pattern = star.pattern;
            path = star.path;
        } else if (deep.pattern && widen(&deep, directories)) {
            pattern = deep.pattern;
            path = deep.path;
            star.pattern = NULL;
        } else {
            return false;
        }
    }
}

static bool wanted(const struct walk *walk) {
    for (const char *const *pattern = walk->patterns; *pattern; pattern++)
        if (glob_match(*pattern, walk->path))
            return true;
    return false;
}

static int put(int out, const void *data, size_t len) {
    for (const char *at = data; len;) {
        ssize_t n = write(out, at, len);
        if (n <= 0)
            return -1;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int put_entry(const struct walk *walk, uint64_t len, uint32_t mode) {
    struct sbx_collected entry = {
        .data_len = len, .path_len = (uint32_t)strlen(walk->path), .mode = mode};
    return put(walk->out, &entry, sizeof entry) < 0 ||
                   put(walk->out, walk->path, entry.path_len) < 0
               ? -1
               : 0;
}

static int copy(int from, int to, uint64_t len) {
    static char buffer[65536];
    while (len) {
        ssize_t n = read(from, buffer, len < sizeof buffer ? (size_t)len : sizeof buffer);
        if (n <= 0 || put(to, buffer, (size_t)n) < 0)
            return -1;
        len -= (uint64_t)n;
    }
    return 0;
}

static int open_entry(int dir, const char *name, uint64_t flags) {
    const struct open_how how = {.flags = flags | O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                            RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    return sys_openat2(dir, name, &how);
}

static void remember(struct walk *walk, int error) {
    if (!walk->error)
        walk->error = error;
}

static int collect_file(struct walk *walk, int dir, const char *name) {
    struct stat st;
    autoclose int fd = open_entry(dir, name, 0);
    if (fd < 0 || fstat(fd, &st) < 0) {
        remember(walk, errno);
        return 0;
    }
    if (!S_ISREG(st.st_mode))
        return 0;
    uint64_t need = (uint64_t)st.st_size + strlen(walk->path) + sizeof(struct sbx_collected);
    if (need > walk->left) {
        remember(walk, EFBIG);
        return 0;
    }
    walk->left -= need;
    if (put_entry(walk, (uint64_t)st.st_size, st.st_mode & 0777) < 0)
        return -1;
    return copy(fd, walk->out, (uint64_t)st.st_size);
}

static int walk_directory(struct walk *walk, int dir, size_t prefix, unsigned depth);

static int walk_entry(struct walk *walk, int dir, const char *name, size_t prefix, unsigned depth) {
    struct stat st;
    size_t len = prefix + strlen(name);
    if (len + 2 > sizeof walk->path || depth > MAX_DEPTH) {
        remember(walk, ENAMETOOLONG);
        return 0;
    }
    strcpy(walk->path + prefix, name);
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISREG(st.st_mode))
        return wanted(walk) ? collect_file(walk, dir, name) : 0;
    if (!S_ISDIR(st.st_mode))
        return 0;
    autoclose int child = open_entry(dir, name, O_DIRECTORY);
    if (child < 0) {
        remember(walk, errno);
        return 0;
    }
    strcpy(walk->path + len, "/");
    return walk_directory(walk, child, len + 1, depth + 1);
}

static int walk_directory(struct walk *walk, int dir, size_t prefix, unsigned depth) {
    _Alignas(struct entry) char buffer[4096];
    long len;
    while ((len = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < len;) {
            const struct entry *entry = (const struct entry *)(buffer + at);
            at += entry->reclen;
            if (strcmp(entry->name, ".") && strcmp(entry->name, "..") &&
                walk_entry(walk, dir, entry->name, prefix, depth) < 0)
                return -1;
        }
    return (int)len;
}

int collect_files(int work, int out, const char *const *patterns, uint64_t limit) {
    static struct walk walk;
    walk = (struct walk){.out = out, .patterns = patterns, .left = limit};
    if (walk_directory(&walk, work, 0, 0) < 0)
        return -1;
    walk.path[0] = '\0';
    return put_entry(&walk, 0, (uint32_t)walk.error);
}
