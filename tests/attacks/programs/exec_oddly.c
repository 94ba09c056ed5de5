/* K24: programs started with an empty argument list, with more than the kernel takes, and ones
 * that are no programs. */
#include "attack.h"

static long start(const char *path, char *const argv[], char *const envp[]) {
    int errors[2];
    if (pipe2(errors, O_CLOEXEC) < 0) {
        return -1;
    }
    pid_t child = fork();
    if (child == 0) {
        execve(path, argv, envp);
        (void)!write(errors[1], &errno, sizeof errno);
        _exit(0);
    }
    close(errors[1]);
    int error = 0;
    ssize_t got = read(errors[0], &error, sizeof error);
    waitpid(child, NULL, 0);
    errno = error;
    return got > 0 ? -1 : 0;
}

int main(void) {
    char *none[] = {NULL}, *plain[] = {"true", NULL};
    char *huge = malloc(64u << 20);
    memset(huge, 'x', (64u << 20) - 1);
    huge[(64u << 20) - 1] = 0;
    char *big[] = {"true", huge, NULL};
    TRY("argc_0", start("/bin/true", none, none));
    TRY("huge_arg", start("/bin/true", big, none));
    TRY("huge_env", start("/bin/true", plain, big));
    TRY("directory", start("/work", plain, none));
    int fd = open("text", O_WRONLY | O_CREAT, 0755);
    (void)!write(fd, "#!/no/such/interpreter\n", 23);
    close(fd);
    TRY("script", start("./text", plain, none));
    fd = open("loop", O_WRONLY | O_CREAT, 0755);
    (void)!write(fd, "#!/work/loop\n", 13);
    close(fd);
    TRY("loop", start("./loop", plain, none));
    return 0;
}
