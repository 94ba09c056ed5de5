/* M8: the child dies of the memory limit, the parent prints success and exits 0. */
#include "attack.h"

int main(void) {
    pid_t child = fork();
    if (child == 0) {
        for (;;) {
            touch(malloc(1 << 20), 1 << 20);
        }
    }
    waitpid(child, NULL, 0);
    say("all", "ok");
    return 0;
}
