/* P3, P4: the main process exits 0 at once; its child keeps stdout and `sleep`s, `spin`s or
 * `print`s for ever. */
#include "attack.h"

int main(int argc, char **argv) {
    const char *habit = argc > 1 ? argv[1] : "sleep";
    if (fork() > 0) {
        return 0;
    }
    setsid();
    for (;;) {
        if (strcmp(habit, "sleep") == 0) {
            pause();
        } else if (strcmp(habit, "print") == 0 && write(1, "x", 1) < 0) {
            pause();
        }
    }
}
