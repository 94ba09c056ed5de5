/* K1, K2, K3: leaves through /proc: roots and working directories of other processes, descriptors
 * left open, the program file of pid 1. */
#include "attack.h"
#include <dirent.h>

static void show_target(const char *name, const char *path) {
    char target[256] = "";
    ssize_t len = readlink(path, target, sizeof target - 1);
    say(name, len < 0 ? strerrorname_np(errno) : target);
}

int main(void) {
    show_target("init_root", "/proc/1/root");
    show_target("init_cwd", "/proc/1/cwd");
    show_target("init_exe", "/proc/1/exe");
    TRY("init_exe_write", open("/proc/1/exe", O_WRONLY));
    TRY("init_root_open", open("/proc/1/root/etc/shadow", O_RDONLY));
    TRY("init_fd", open("/proc/1/fd", O_RDONLY | O_DIRECTORY));
    TRY("init_map", open("/proc/1/uid_map", O_WRONLY));
    TRY("self_exe_write", open("/proc/self/exe", O_WRONLY));
    TRY("shadow", open("/proc/self/root/etc/shadow", O_RDONLY));
    struct stat root, up;
    stat("/", &root);
    stat("/proc/self/cwd/../../../../../../../..", &up);
    say_number("same_root", root.st_dev == up.st_dev && root.st_ino == up.st_ino);
    long open_fds = 0, escapes = 0;
    for (int fd = 3; fd < 1024; fd++) {
        char path[64];
        open_fds += fcntl(fd, F_GETFD) >= 0;
        snprintf(path, sizeof path, "/proc/self/fd/%d/../../../../etc/shadow", fd);
        escapes += open(path, O_RDONLY) >= 0;
        snprintf(path, sizeof path, "/proc/1/fd/%d", fd);
        escapes += open(path, O_RDONLY) >= 0;
    }
    say_number("open_fds", open_fds);
    say_number("escapes", escapes);
    DIR *top = opendir("/");
    struct dirent *entry;
    while (top && (entry = readdir(top))) {
        char name[300];
        snprintf(name, sizeof name, "top_%s", entry->d_name);
        say(name, "there");
    }
    return 0;
}
