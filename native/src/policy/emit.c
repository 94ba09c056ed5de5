/* From libseccomp's filters to text that a C compiler reads. */
#define _GNU_SOURCE
#include "emit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void die(const char *what, int error) {
    fprintf(stderr, "policy: %s: %s\n", what, strerror(error));
    exit(1);
}

size_t export_filter(scmp_filter_ctx filter, struct sock_filter *ret_program) {
    int memfd = memfd_create("policy", MFD_CLOEXEC);
    if (memfd < 0)
        die("cannot make a file in memory", errno);
    int error = seccomp_export_bpf(filter, memfd);
    if (error)
        die("cannot export the filter", -error);
    seccomp_release(filter);
    ssize_t bytes = pread(memfd, ret_program, MAX_INSTRUCTIONS * sizeof *ret_program, 0);
    if (bytes <= 0 || (size_t)bytes % sizeof *ret_program)
        die("cannot read the filter back", bytes < 0 ? errno : EIO);
    close(memfd);
    return (size_t)bytes / sizeof *ret_program;
}

void print_program(FILE *out, const struct sock_filter *program, size_t count) {
    for (size_t i = 0; i < count; i++)
        fprintf(out, "    {0x%04x, %u, %u, 0x%08x},\n", program[i].code, program[i].jt,
                program[i].jf, program[i].k);
}
