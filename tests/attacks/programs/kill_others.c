/* P8, P9, P10, K26: signals to everything this process can name: its parent, pid 1, everybody
 * (a child of ours is in there), and the pids around the host's numbers given as arguments. */
#include "attack.h"

int main(int argc, char **argv) {
    say_number("ppid", getppid());
    TRY("stop_parent", kill(getppid(), SIGSTOP));
    TRY("kill_parent", kill(getppid(), SIGKILL));
    for (int number = 1; number < NSIG; number++) {
        int result = kill(1, number);
        if (result == 0 || errno != EPERM) {
            char name[32];
            snprintf(name, sizeof name, "init_%d", number);
            say_result(name, result);
        }
    }
    for (int i = 1; i < argc; i++) {
        char name[32];
        snprintf(name, sizeof name, "host_%d", i);
        TRY(name, kill(atoi(argv[i]), SIGKILL));
    }
    pid_t child = fork();
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    TRY("kill_all", kill(-1, SIGKILL));
    int status = 0;
    waitpid(child, &status, 0);
    say_number("child_signal", WTERMSIG(status));
    say("alive", "ok");
    return 0;
}
