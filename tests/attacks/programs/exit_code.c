/* P21: exits with the code asked for, or dies of the signal asked for. */
#include "attack.h"

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "signal") == 0) {
        int number = atoi(argv[2]);
        signal(number, SIG_DFL);
        kill(getpid(), number);
        pause();
    }
    return argc > 1 ? atoi(argv[1]) : 0;
}
