/*
 * What the fuzz targets share: reading decisions from the input, and saying what must not be.
 *
 * Each target is a libFuzzer program that drives the helper's own code, compiled with ASan and
 * UBSan. An input is never an error; FUZZ_CHECK is for what no input may bring about.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: must not be: !(%s)\n", __FILE__, __LINE__, __func__,       \
                    #condition);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is left of the input; reading beyond its end gives zeros. */
struct input {
    const uint8_t *at;
    size_t left;
};

static inline void take_bytes(struct input *input, void *ret, size_t len) {
    size_t have = len < input->left ? len : input->left;
    memset(ret, 0, len);
    if (have)
        memcpy(ret, input->at, have);
    input->at += have;
    input->left -= have;
}

static inline uint8_t take_byte(struct input *input) {
    uint8_t byte;
    take_bytes(input, &byte, sizeof byte);
    return byte;
}

/* A number of 1 to 8 bytes, so that small numbers and the largest are both close. */
static inline uint64_t take_number(struct input *input) {
    uint64_t number = 0;
    uint8_t kind = take_byte(input);
    take_bytes(input, &number, kind % 8 + 1);
    return kind & 0x80 ? ~number : number;
}

/* Makes a directory for this run, where the tests put theirs. */
void fuzz_make_directory(char *ret, size_t size);
/* Descriptors that are open; what a target opens it must close. */
unsigned fuzz_count_fds(void);
/* A descriptor of some kind: a memfd, a pipe, a socket, … */
int fuzz_open(uint8_t kind);
/* Sends a message with that many descriptors of the kind, more than the helper ever would. Returns
 * false where the socket takes no more. */
bool fuzz_send(int sock, const void *data, size_t len, unsigned fds, uint8_t kind);

#endif
