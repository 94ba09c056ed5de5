/*
 * A test program is a list of functions. A failed CHECK says where and goes on; the program exits
 * with 1 when one failed. No framework, so that a sanitizer's report points at our own code.
 */
#ifndef TEST_H
#define TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct test {
    const char *name;
    void (*run)(void);
};

static int test_failures;
static const char *test_skipped; /* why */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            test_failures++;                                                                       \
            printf("%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #condition);           \
        }                                                                                          \
    } while (0)

/* Both values are printed; they must be integers. */
#define CHECK_EQ(actual, expected)                                                                 \
    do {                                                                                           \
        long long actual_ = (long long)(actual);                                                   \
        long long expected_ = (long long)(expected);                                               \
        if (actual_ != expected_) {                                                                \
            test_failures++;                                                                       \
            printf("%s:%d: %s: %s is %lld, not %lld\n", __FILE__, __LINE__, __func__, #actual,     \
                   actual_, expected_);                                                            \
        }                                                                                          \
    } while (0)

/* What a test cannot go on without. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: %s: cannot go on: %s\n", __FILE__, __LINE__, __func__, #condition);     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* What this machine cannot show; in a test's own function. */
#define SKIP_UNLESS(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            test_skipped = ": needs " #condition;                                                  \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define TEST(function) {#function, function}

#define TEST_MAIN(...)                                                                             \
    int main(void) {                                                                               \
        static const struct test tests[] = {__VA_ARGS__};                                          \
        for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {                                \
            int before = test_failures;                                                            \
            test_skipped = NULL;                                                                   \
            tests[i].run();                                                                        \
            printf("%s %s%s\n",                                                                    \
                   test_failures != before ? "FAILED"                                              \
                   : test_skipped          ? "skip  "                                              \
                                           : "ok    ",                                             \
                   tests[i].name, test_skipped ? test_skipped : "");                               \
            fflush(stdout);                                                                        \
        }                                                                                          \
        return test_failures != 0;                                                                 \
    }

#endif
