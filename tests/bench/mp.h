/*
 * Just enough MessagePack reading for the load generators: walk over values in a buffer that may
 * end in the middle of one. Nothing is copied.
 */
#ifndef BENCH_MP_H
#define BENCH_MP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum mp_kind { MP_OTHER, MP_NIL, MP_UINT, MP_BYTES, MP_ARRAY, MP_MAP };

struct mp_item {
    enum mp_kind kind;
    uint64_t n; /* the integer, the bytes, the elements or the pairs */
    const uint8_t *data;
};

/* at == NULL: the buffer ended too early. */
struct mp {
    const uint8_t *at;
    const uint8_t *end;
};

static inline const uint8_t *mp_take(struct mp *m, uint64_t n) {
    const uint8_t *p = m->at;

    if (!p || (uint64_t)(m->end - p) < n) {
        m->at = NULL;
        return NULL;
    }
    m->at = p + n;
    return p;
}

static inline uint64_t mp_be(struct mp *m, unsigned bytes) {
    const uint8_t *p = mp_take(m, bytes);
    uint64_t v = 0;

    for (unsigned i = 0; p && i < bytes; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static inline struct mp_item mp_bytes(struct mp *m, uint64_t n) {
    return (struct mp_item){MP_BYTES, n, mp_take(m, n)};
}

/* A run of formats whose size field, or size, doubles from one to the next. */
static inline bool mp_in(uint8_t tag, uint8_t first, uint8_t last) {
    return tag >= first && tag <= last;
}

/* The formats 0xc0 to 0xdf: everything with a byte of its own. */
static inline struct mp_item mp_wide(struct mp *m, uint8_t tag) {
    if (tag == 0xc0) {
        return (struct mp_item){MP_NIL, 0, NULL};
    }
    if (mp_in(tag, 0xc4, 0xc6) || mp_in(tag, 0xd9, 0xdb)) { /* bin, str */
        return mp_bytes(m, mp_be(m, 1U << (tag - (tag < 0xd9 ? 0xc4 : 0xd9))));
    }
    if (mp_in(tag, 0xcc, 0xcf)) {
        return (struct mp_item){MP_UINT, mp_be(m, 1U << (tag - 0xcc)), NULL};
    }
    if (mp_in(tag, 0xdc, 0xdf)) {
        return (struct mp_item){tag < 0xde ? MP_ARRAY : MP_MAP, mp_be(m, 2U << (tag & 1)), NULL};
    }
    if (mp_in(tag, 0xc7, 0xc9)) { /* ext, with a type byte, as fixext */
        mp_take(m, mp_be(m, 1U << (tag - 0xc7)) + 1);
    } else if (mp_in(tag, 0xd4, 0xd8)) {
        mp_take(m, (1U << (tag - 0xd4)) + 1);
    } else if (mp_in(tag, 0xd0, 0xd3)) { /* int */
        mp_take(m, 1U << (tag - 0xd0));
    } else if (mp_in(tag, 0xca, 0xcb)) { /* float */
        mp_take(m, 4U << (tag - 0xca));
    }
    return (struct mp_item){MP_OTHER, 0, NULL};
}

/* The next value, or the head of the next array or map. */
static inline struct mp_item mp_next(struct mp *m) {
    const uint8_t *p = mp_take(m, 1);
    uint8_t tag = p ? *p : 0xc0;

    if (tag < 0x80) {
        return (struct mp_item){MP_UINT, tag, NULL};
    }
    if (tag < 0x90) {
        return (struct mp_item){MP_MAP, tag & 15U, NULL};
    }
    if (tag < 0xa0) {
        return (struct mp_item){MP_ARRAY, tag & 15U, NULL};
    }
    if (tag < 0xc0) {
        return mp_bytes(m, tag & 31U);
    }
    if (tag < 0xe0) {
        return mp_wide(m, tag);
    }
    return (struct mp_item){MP_OTHER, 0, NULL};
}

static inline void mp_skip(struct mp *m) {
    for (uint64_t left = 1; left > 0 && m->at; left--) {
        struct mp_item item = mp_next(m);

        left += item.kind == MP_ARRAY ? item.n : item.kind == MP_MAP ? 2 * item.n : 0;
    }
}

static inline bool mp_is(struct mp_item item, const char *text) {
    return item.kind == MP_BYTES && item.data && item.n == strlen(text) &&
           memcmp(item.data, text, item.n) == 0;
}

/* Stand at a map: move to the value of key and return true, or behind the map and return false. */
static inline bool mp_find(struct mp *m, const char *key) {
    struct mp_item map = mp_next(m);

    for (uint64_t i = 0; map.kind == MP_MAP && i < map.n && m->at; i++) {
        if (mp_is(mp_next(m), key)) {
            return m->at != NULL;
        }
        mp_skip(m);
    }
    return false;
}

#endif
