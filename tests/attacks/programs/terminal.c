/* What a terminal job sees: three terminals, the size, then echoes lines until the end or SIGINT.
 */
#include "attack.h"
#include <sys/ioctl.h>

static void size_changed(int number) {
    struct winsize size;
    ioctl(0, TIOCGWINSZ, &size);
    dprintf(1, "%s=%dx%d\n", number ? "resized" : "size", size.ws_row, size.ws_col);
}

int main(void) {
    dprintf(1, "ttys=%d%d%d\n", isatty(0), isatty(1), isatty(2));
    say_number("foreground", tcgetpgrp(0) == getpgrp());
    struct sigaction action = {.sa_handler = size_changed, .sa_flags = SA_RESTART};
    sigaction(SIGWINCH, &action, NULL);
    size_changed(0);
    char line[256];
    ssize_t got;
    while ((got = read(0, line, sizeof line)) > 0) {
        dprintf(1, "line=%.*s", (int)got, line);
    }
    say("end", "ok");
    return 0;
}
