/* Touches so many bytes, prints too much, and at once touches more than it may have: two limits are
 * reached before anybody can act on the first. */
#include "attack.h"
#include <sys/mman.h>

int main(int argc, char **argv) {
    static char text[65536];
    const size_t room = 64 << 20;
    size_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    char *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    touch(memory, first);
    if (write(STDOUT_FILENO, text, sizeof text) < 0)
        return 1;
    touch(memory + first, room - first);
    return 0;
}
