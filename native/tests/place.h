/* A directory of its own for a test: work/ for what is tested, and something outside of it. */
#ifndef PLACE_H
#define PLACE_H

#include <ftw.h>
#include <sys/stat.h>

#include "internal.h"
#include "test.h"

struct place {
    char path[64];
    int work;
};

static inline struct place place_make(void) {
    struct place place = {.path = "/tmp/sandboxd-test-XXXXXX"};
    REQUIRE(mkdtemp(place.path));
    autoclose int dir = open(place.path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    REQUIRE(dir >= 0 && mkdirat(dir, "work", 0755) == 0);
    place.work = openat(dir, "work", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    REQUIRE(place.work >= 0);
    return place;
}

static inline int place_remove_entry(const char *path, const struct stat *st, int type,
                                     struct FTW *at) {
    (void)st, (void)type, (void)at;
    return remove(path);
}

static inline void place_remove(struct place *place) {
    REQUIRE(nftw(place->path, place_remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
    close_fd(&place->work);
}

#endif
