/* D8: changes, replaces or deletes its inputs and its own program. Says what it found first. */
#include "attack.h"

int main(void) {
    char text[64] = {0};
    int fd = open("input", O_RDWR);
    TRY("open", fd);
    (void)!pread(fd, text, sizeof text - 1, 0);
    say("input", text);
    TRY("write", pwrite(fd, "spoilt", 6, 0));
    TRY("unlink_input", unlink("data/deep"));
    TRY("rmdir", rmdir("data"));
    TRY("unlink_self", unlink("/proc/self/exe"));
    TRY("unlink_program", unlink("spoil_inputs"));
    TRY("symlink", symlink("/etc/passwd", "spoil_inputs"));
    return 0;
}
