/* Uses memory, gives it back, then reads files until page cache has taken its place. */
#include "attack.h"
#include <dirent.h>
#include <sys/mman.h>

static const size_t used = 48 << 20, enough = 200 << 20;

static size_t read_file(int dir, const char *name) {
    static char buffer[1 << 16];
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    size_t total = 0;
    ssize_t n;
    while (fd >= 0 && (n = read(fd, buffer, sizeof buffer)) > 0)
        total += (size_t)n;
    if (fd >= 0)
        close(fd);
    return total;
}

int main(void) {
    char *memory = mmap(NULL, used, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    touch(memory, used);
    munmap(memory, used);
    static const char *const places[] = {"/usr/lib/x86_64-linux-gnu", "/usr/bin", "/usr/sbin"};
    size_t total = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places && total < enough; i++) {
        DIR *dir = opendir(places[i]);
        struct dirent *entry;
        while (dir && total < enough && (entry = readdir(dir)))
            total += read_file(dirfd(dir), entry->d_name);
    }
    printf("read=%zu\n", total);
    return 0;
}
