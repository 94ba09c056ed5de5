/* The seccomp programs of the process that unpacks archives, for sandboxd (through cffi). */
#include "sandbox.h"
#include "seccomp_unpack_policy.h"

static const struct {
    const struct sock_filter *program;
    uint32_t bytes;
} filters[] = {
    [SBX_FILTER_BASE] = {sbx_unpack_base, sizeof sbx_unpack_base},
    [SBX_FILTER_NO_PROCESS] = {sbx_unpack_no_process, sizeof sbx_unpack_no_process},
    [SBX_FILTER_NO_PROGRAM] = {sbx_unpack_no_program, sizeof sbx_unpack_no_program},
};

const void *sbx_unpack_filter(enum sbx_filter which, uint32_t *ret_bytes) {
    *ret_bytes = filters[which].bytes;
    return filters[which].program;
}
