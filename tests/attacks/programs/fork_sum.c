/* M9: each child stays below the limit, all together do not. */
#include "attack.h"

int main(int argc, char **argv) {
    int children = argc > 1 ? atoi(argv[1]) : 8;
    size_t each = argc > 2 ? strtoull(argv[2], NULL, 10) : 16u << 20;
    for (int i = 0; i < children; i++) {
        if (fork() == 0) {
            touch(malloc(each), each);
            pause();
        }
    }
    while (wait(NULL) > 0) {
    }
    say("all", "ok");
    return 0;
}
