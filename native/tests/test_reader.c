/* Output that is read while a job runs: all of it, in order, and no more than it may print. */
#define _GNU_SOURCE
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "test.h"
#include "worker.h"

enum { CAP = 1 << 20 };

struct place {
    struct output output;
    struct reader reader;
    int reads[2], writes[2], tell;
};

static void begin(struct place *place, uint64_t cap, bool ordered) {
    REQUIRE(reader_init(&place->reader) == 0 && output_init(&place->output, CAP) == 0);
    place->tell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (int i = 0; i < 2; i++) {
        int ends[2];
        REQUIRE(pipe2(ends, O_CLOEXEC) == 0); /* who writes may wait, as a job does */
        REQUIRE(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
        place->reads[i] = ends[0];
        place->writes[i] = ends[1];
    }
    output_begin(&place->output, cap, ordered);
}

static void end(struct place *place) {
    for (int i = 0; i < 2; i++) {
        close_fd(&place->reads[i]);
        close_fd(&place->writes[i]);
    }
    close_fd(&place->tell);
}

static void print(int fd, char c, size_t count) {
    char data[4096];
    memset(data, c, sizeof data);
    for (size_t left = count; left;) {
        ssize_t n = write(fd, data, left < sizeof data ? left : sizeof data);
        REQUIRE(n > 0);
        left -= (size_t)n;
    }
}

static int start(struct place *place) {
    return reader_start(&place->reader, &place->output, place->reads, place->tell);
}

/* More than a pipe holds, so somebody does read. */
static void a_writer_does_not_wait(void) {
    static struct place place; /* its thread stays */
    begin(&place, CAP, false);
    REQUIRE(start(&place) == 0);
    print(place.writes[0], 'o', 500000);
    print(place.writes[1], 'e', 300000);
    reader_stop(&place.reader);
    for (unsigned i = 0; i < 2; i++)
        CHECK(output_read(&place.output, i, place.reads[i], UINT64_MAX));
    CHECK_EQ(place.output.len[0], 500000);
    CHECK_EQ(place.output.len[1], 300000);
    CHECK(!memchr(place.output.data[0], 'e', 500000));
    CHECK(!memchr(place.output.data[1], 'o', 300000));
    CHECK(!reader_is_full(&place.reader));
    end(&place);
}

static void too_much_is_told(void) {
    static struct place place; /* its thread stays */
    eventfd_t count = 0;
    begin(&place, 1000, false);
    REQUIRE(start(&place) == 0);
    print(place.writes[1], 'e', 1001);
    struct pollfd told = {.fd = place.tell, .events = POLLIN};
    REQUIRE(poll(&told, 1, 10000) == 1);
    CHECK(reader_is_full(&place.reader));
    CHECK_EQ(eventfd_read(place.tell, &count), 0);
    reader_stop(&place.reader);
    CHECK(!reader_is_full(&place.reader));
    CHECK_EQ(place.output.len[1], 1000);
    CHECK(place.output.truncated[1]);
    end(&place);
}

/* What comes after a stop is the loop's, of one job after the other. */
static void it_is_used_again(void) {
    static struct place place; /* its thread stays */
    begin(&place, CAP, true);
    for (unsigned round = 0; round < 100; round++) {
        output_begin(&place.output, CAP, true);
        reader_stop(&place.reader); /* does nothing: it does not work */
        REQUIRE(start(&place) == 0);
        print(place.writes[0], 'a', round);
        print(place.writes[1], 'b', 1);
        reader_stop(&place.reader);
        print(place.writes[0], 'c', 2);
        for (unsigned i = 0; i < 2; i++)
            CHECK(output_read(&place.output, i, place.reads[i], UINT64_MAX));
        CHECK_EQ(place.output.len[0], round + 2);
        CHECK_EQ(place.output.len[1], 1);
    }
    end(&place);
}

TEST_MAIN(TEST(a_writer_does_not_wait), TEST(too_much_is_told), TEST(it_is_used_again))
