/* O12, O13: gives pages of its own to the pipe it prints to and changes them when they may have
 * been read; copies its stdin to its stdout without reading it; passes descriptors along stdio. */
#include "attack.h"
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { PAGE = 4096 };

static void note(const char *name, long result) {
    dprintf(2, "%s=%s\n", name, result < 0 ? strerrorname_np(errno) : "ok");
}

static long pass_descriptor(int fd) {
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    int passed = open("/dev/null", O_RDONLY);
    memcpy(CMSG_DATA(header), &passed, sizeof passed);
    return sendmsg(fd, &message, 0);
}

int main(void) {
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(page, 'A', PAGE);
    struct iovec part = {page, PAGE};
    note("vmsplice", vmsplice(1, &part, 1, SPLICE_F_GIFT));
    usleep(200000);
    memset(page, 'B', PAGE);
    note("tee", tee(0, 1, 5, SPLICE_F_NONBLOCK));
    note("splice", splice(0, NULL, 1, NULL, 5, SPLICE_F_NONBLOCK));
    int file = open("/work/page", O_RDWR | O_CREAT, 0600);
    (void)!write(file, page, PAGE);
    loff_t start = 0;
    note("splice_file", splice(file, &start, 1, NULL, PAGE, 0));
    usleep(200000);
    memset(page, 'C', PAGE);
    (void)!pwrite(file, page, PAGE, 0);
    note("pass_stdout", pass_descriptor(1));
    note("pass_stdin", pass_descriptor(0));
    return 0;
}
