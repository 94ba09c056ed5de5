/* P6: waits without using the processor: `pause`, `sleep`, `select`, or `stop` (P7). */
#include "attack.h"
#include <sys/select.h>

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "pause";
    for (;;) {
        if (strcmp(how, "pause") == 0) {
            pause();
        } else if (strcmp(how, "sleep") == 0) {
            sleep(1000);
        } else if (strcmp(how, "select") == 0) {
            select(0, NULL, NULL, NULL, NULL);
        } else {
            raise(SIGSTOP);
        }
    }
}
