/* P14: makes zombies it never waits for, until the kernel refuses, then exits normally. */
#include "attack.h"

int main(void) {
    long made = 0;
    for (; made < 100000; made++) {
        pid_t child = fork();
        if (child == 0) {
            _exit(0);
        }
        if (child < 0) {
            say("fork", strerrorname_np(errno));
            break;
        }
    }
    say_number("made", made);
    return 0;
}
