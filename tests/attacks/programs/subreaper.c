/* P24: makes itself the reaper of orphans, then leaves a family of daemons behind. */
#include "attack.h"
#include <sys/prctl.h>

int main(void) {
    TRY("subreaper", prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    int ready[2];
    if (pipe(ready) < 0) {
        return 2;
    }
    for (int i = 0; i < 5; i++) {
        if (fork() == 0) {
            setsid();
            prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
            prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
            if (fork() > 0) {
                pause();
            }
            (void)!write(ready[1], "x", 1);
            for (;;) {
                pause();
            }
        }
    }
    char byte;
    for (int i = 0; i < 5; i++) {
        (void)!read(ready[0], &byte, 1);
    }
    return 0;
}
