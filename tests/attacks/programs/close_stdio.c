/* O8: closes its standard descriptors, or puts others in their place, and goes on waiting. */
#include "attack.h"

int main(int argc, char **argv) {
    (void)argv;
    (void)!write(1, "before", 6);
    if (argc > 1) {
        int fd = open("/dev/null", O_RDWR);
        dup2(fd, 0);
        dup2(fd, 1);
        dup2(fd, 2);
    } else {
        close(0);
        close(1);
        close(2);
    }
    usleep(300000);
    return 0;
}
