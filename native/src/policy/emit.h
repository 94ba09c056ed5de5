/* What the programs that write seccomp policies share; with them the only users of libseccomp. */
#ifndef SBX_EMIT_H
#define SBX_EMIT_H

#include <linux/filter.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>

enum { MAX_INSTRUCTIONS = 4096 /* BPF_MAXINSNS */ };

__attribute__((noreturn)) void die(const char *what, int error);

/* Compiles and releases a filter. Returns the number of instructions. */
size_t export_filter(scmp_filter_ctx filter, struct sock_filter *ret_program);

/* Instructions as elements of a C array. */
void print_program(FILE *out, const struct sock_filter *program, size_t count);

#endif
