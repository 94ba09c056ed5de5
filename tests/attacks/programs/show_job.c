/* What a job sees of its own request: arguments, environment, directory, descriptors, stdin. */
#include "attack.h"
#include <sys/resource.h>

extern char **environ;

int main(int argc, char **argv) {
    char text[4096];
    say_number("argc", argc);
    for (int i = 0; i < argc; i++) {
        dprintf(1, "argv_%d=%s\n", i, argv[i]);
    }
    for (char **variable = environ; *variable; variable++) {
        dprintf(1, "env_%s\n", *variable);
    }
    say("cwd", getcwd(text, sizeof text));
    static const struct {
        const char *name;
        int which;
    } limits[] = {{"fsize", RLIMIT_FSIZE},    {"nofile", RLIMIT_NOFILE}, {"stack", RLIMIT_STACK},
                  {"core", RLIMIT_CORE},      {"as", RLIMIT_AS},         {"cpu", RLIMIT_CPU},
                  {"memlock", RLIMIT_MEMLOCK}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit;
        getrlimit(limits[i].which, &limit);
        say_number(limits[i].name,
                   limit.rlim_cur == RLIM_INFINITY ? -1 : (long long)limit.rlim_cur);
    }
    say_number("uid", getuid());
    say_number("gid", getgid());
    say_number("tty", isatty(0));
    long total = 0;
    ssize_t got;
    while ((got = read(0, text, sizeof text)) > 0) {
        total += got;
    }
    say_number("stdin", total);
    return 0;
}
