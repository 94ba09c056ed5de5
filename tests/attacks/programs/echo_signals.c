/* Says each signal that comes, until SIGUSR2. */
#include "attack.h"

static volatile sig_atomic_t last;

static void note(int number) { last = number; }

int main(void) {
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int number = 1; number < 32; number++) {
        signal(number, note);
    }
    say("ready", "ok");
    do {
        sigsuspend(&none);
        say_number("signal", last);
    } while (last != SIGUSR2);
    return 0;
}
