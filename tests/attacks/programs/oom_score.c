/* M13: hides from the OOM killer. */
#include "attack.h"

static long put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    return fd < 0 ? -1 : write(fd, text, strlen(text));
}

int main(void) {
    TRY("oom_score_adj", put("/proc/self/oom_score_adj", "-1000"));
    TRY("oom_adj", put("/proc/self/oom_adj", "-17"));
    return 0;
}
