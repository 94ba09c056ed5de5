/* P25: what privilege this process has, and what a set-user-id program would give it. Run as
 * `again`, it is that program: a copy of itself with mode 6755. */
#include "attack.h"
#include <sys/prctl.h>
#include <sys/sendfile.h>

static void show_status(void) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) {
        char *colon = strchr(line, ':');
        if (colon && (!strncmp(line, "Cap", 3) || !strncmp(line, "NoNewPrivs", 10) ||
                      !strncmp(line, "Seccomp:", 8) || !strncmp(line, "Groups", 6))) {
            *colon = 0;
            char *value = colon + 1;
            value += strspn(value, " \t");
            value[strcspn(value, " \n")] = 0;
            say(line, value);
        }
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "again") == 0) {
        say_number("suid_euid", geteuid());
        say_number("suid_egid", getegid());
        return 0;
    }
    show_status();
    say_number("euid", geteuid());
    TRY("setuid", setuid(0));
    TRY("setgid", setgid(0));
    TRY("setgroups", syscall(SYS_setgroups, 0, NULL));
    TRY("chroot", chroot("/"));
    TRY("chown", chown("/work", 0, 0));
    struct stat info;
    int in = open("/proc/self/exe", O_RDONLY), out = open("copy", O_WRONLY | O_CREAT, 0755);
    fstat(in, &info);
    sendfile(out, in, NULL, (size_t)info.st_size);
    close(out);
    TRY("chmod_suid", chmod("copy", 06755));
    execl("./copy", "copy", "again", NULL);
    return 1;
}
