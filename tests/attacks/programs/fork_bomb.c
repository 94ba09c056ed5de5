/* P1: forks for ever; says once how the first refused fork failed. */
#include "attack.h"

int main(void) {
    pid_t first = getpid();
    int said = 0;
    for (;;) {
        if (fork() < 0 && getpid() == first && !said) {
            say("fork", strerrorname_np(errno));
            said = 1;
        }
    }
}
