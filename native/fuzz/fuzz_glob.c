/* Patterns against a matcher that is written as the documentation says it, and against time: the
 * matcher looks at no character of the path more than a square's worth of times. */
#define _GNU_SOURCE
#include "fuzz.h"
#include "internal.h"

enum { MOST = 64 };

/* Whether pattern[p..] matches path[s..], remembered in `known`. */
struct question {
    const char *pattern, *path;
    signed char known[MOST + 1][MOST + 1];
};

static bool ask(struct question *q, size_t p, size_t s);

/* A class that has no end matches nothing. Returns its length, 0 for none. */
static size_t class_length(const char *at) {
    const char *p = at + 1;
    p += *p == '!' || *p == '^';
    if (!*p)
        return 0;
    for (p++; *p != ']'; p++)
        if (!*p)
            return 0;
    return (size_t)(p + 1 - at);
}

static bool in_class(const char *at, size_t len, char c) {
    const char *p = at + 1, *end = at + len - 1;
    bool negated = *p == '!' || *p == '^', found = false;
    p += negated;
    while (p < end) {
        char low = *p++, high = low;
        if (p + 1 < end && *p == '-') {
            high = p[1];
            p += 2;
        }
        found |= low <= c && c <= high;
    }
    return c && c != '/' && found != negated;
}

static bool ask_deep(struct question *q, size_t p, size_t s) {
    bool directories = q->pattern[p + 2] == '/' && (p == 0 || q->pattern[p - 1] == '/');
    size_t next = p + 2 + directories;
    if (ask(q, next, s))
        return true;
    for (size_t i = s; q->path[i]; i++)
        if ((!directories || q->path[i] == '/') && ask(q, next, i + 1))
            return true;
    return false;
}

static bool ask_star(struct question *q, size_t p, size_t s) {
    do
        if (ask(q, p + 1, s))
            return true;
    while (q->path[s] && q->path[s++] != '/');
    return false;
}

static bool answer(struct question *q, size_t p, size_t s) {
    const char *at = q->pattern + p, c = q->path[s];
    if (*at == '*')
        return at[1] == '*' ? ask_deep(q, p, s) : ask_star(q, p, s);
    if (!*at || !c)
        return *at == c;
    if (*at == '[') {
        size_t len = class_length(at);
        return len && in_class(at, len, c) && ask(q, p + len, s + 1);
    }
    return (*at == '?' ? c != '/' : *at == c) && ask(q, p + 1, s + 1);
}

bool ask(struct question *q, size_t p, size_t s) {
    signed char *known = &q->known[p][s];
    if (!*known)
        *known = answer(q, p, s) ? 1 : -1;
    return *known > 0;
}

/* In memory of exactly its size, so that a read beyond the end is seen. */
static char *take_text(struct input *input, size_t len) {
    char *text = malloc(len + 1);
    FUZZ_CHECK(text);
    take_bytes(input, text, len);
    text[len] = '\0';
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    size_t len = take_byte(&input) % (MOST + 1);
    len = len < input.left ? len : input.left;
    size_t rest = input.left - len < MOST ? input.left - len : MOST;
    char *pattern = take_text(&input, len), *path = take_text(&input, rest);
    struct question question = {.pattern = pattern, .path = path};
    FUZZ_CHECK(glob_match(pattern, path) == ask(&question, 0, 0));
    free(pattern);
    free(path);
    return 0;
}
