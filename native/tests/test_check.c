/* The kernel check: one well-formed line for each feature, and an exit status that agrees. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/wait.h>

#include "internal.h"
#include "test.h"

static int run_check(char *ret_text, size_t size) {
    int ends[2], status = 0;
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        (void)dup2(ends[1], 1);
        _exit(sbx_check());
    }
    close_fd(&ends[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(ends[0], ret_text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    ret_text[len] = '\0';
    close_fd(&ends[0]);
    REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Checks one line and returns whether it stops sandboxd from serving. */
static bool check_line(char *line) {
    char *field[5];
    for (int i = 0; i < 5; i++) {
        field[i] = strsep(&line, "\t");
        REQUIRE(field[i]);
    }
    bool missing = !strcmp(field[1], "missing");
    bool required = !strcmp(field[2], "required");
    CHECK(!line);
    CHECK(field[0][0] && field[3][0]);
    CHECK(missing || !strcmp(field[1], "ok"));
    CHECK(required || !strcmp(field[2], "optional"));
    CHECK(missing == (field[4][0] != '\0'));
    return missing && required;
}

static void the_check_is_a_table(void) {
    char text[16384];
    int status = run_check(text, sizeof text);
    bool stops = false;
    unsigned lines = 0;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) && *line; lines++)
        stops |= check_line(line);
    CHECK(lines >= 20);
    CHECK_EQ(status, stops);
}

static void a_feature_that_is_not_there_is_missing(void) {
    char text[16384];
    pid_t pid = fork();
    int status = 0;
    REQUIRE(pid >= 0);
    if (pid == 0) { /* without privilege two users cannot be mapped */
        if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
            _exit(2);
        int result = run_check(text, sizeof text);
        _exit(result != 1 || !strstr(text, "\ncapabilities\tmissing\trequired\t") ||
              !strstr(text, "\nuser_mapping\tmissing\trequired\t"));
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
}

TEST_MAIN(TEST(the_check_is_a_table), TEST(a_feature_that_is_not_there_is_missing))
