/* M2: grows the heap for ever; M3: asks for 64 TiB at once and survives the refusal, to exit with
 * `once`, to ask again for ever with `again`. */
#include "attack.h"

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "once") == 0) {
        say("malloc", malloc((size_t)1 << 46) ? "ok" : strerrorname_np(errno));
        return 0;
    }
    while (argc > 1 && strcmp(argv[1], "again") == 0) {
        void *volatile block = malloc((size_t)1 << 46);
        free(block);
    }
    for (;;) {
        char *block = malloc(1 << 20);
        if (!block) {
            say("malloc", strerrorname_np(errno));
            return 1;
        }
        touch(block, 1 << 20);
    }
}
