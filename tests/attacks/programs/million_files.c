/* D3: a million empty files in each directory given. */
#include "attack.h"

int main(int argc, char **argv) {
    long made = 0;
    for (int at = 1; at < argc; at++) {
        for (long i = 0; i < 1000000; i++) {
            char path[128];
            snprintf(path, sizeof path, "%s/f%ld", argv[at], i);
            int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
            if (fd < 0) {
                say(argv[at], strerrorname_np(errno));
                break;
            }
            close(fd);
            made++;
        }
    }
    say_number("made", made);
    return 0;
}
