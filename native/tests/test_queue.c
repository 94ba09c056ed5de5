#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/uio.h>

#include "test.h"
#include "worker.h"

enum { SLOTS = 4, WAITING = 2 };

static struct config config;
static struct slot slots[SLOTS];
static struct waiting waiting[WAITING];
static struct worker worker;

/* Every slot but the first is ready, and fresh, for jobs that want nothing special. */
static void begin(void) {
    config = (struct config){.slots = 2};
    for (unsigned i = 0; i < SLOTS; i++)
        slots[i] = (struct slot){.index = i, .state = i ? SLOT_IDLE : SLOT_EMPTY};
    memset(waiting, 0, sizeof waiting);
    worker = (struct worker){.config = &config,
                             .slot = slots,
                             .slot_count = SLOTS,
                             .waiting = waiting,
                             .waiting_count = WAITING};
}

static void one_that_waits_for_another_kind_says_so(void) {
    begin();
    slots[0].mounts = waiting[0].job.mounts = 1;
    queue_add(&worker, &waiting[0]);
    queue_run(&worker);
    CHECK(waiting[0].used);
    CHECK(worker.wanting);
    worker.running = config.slots;
    queue_run(&worker);
    CHECK(!worker.wanting); /* it waits for the others */
    worker.running = 0;
    queue_drop(&waiting[0]);
    queue_run(&worker);
    CHECK(!worker.wanting);
}

static void one_of_an_unknown_environment_gets_no_slot(void) {
    begin();
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    worker.sock = pair[0];
    worker.environment[0] = (struct environment){2, pair[0]};
    waiting[0].job.job_id = 7;
    waiting[0].job.root = 1;
    queue_add(&worker, &waiting[0]);
    queue_run(&worker);
    CHECK(!waiting[0].used);
    struct sbx_result result = {0};
    CHECK_EQ(recv(pair[1], &result, sizeof result, MSG_DONTWAIT), sizeof result);
    CHECK_EQ(result.job_id, 7);
    CHECK_EQ(result.reason, SBX_REASON_SETUP);
    CHECK_EQ(result.step, SBX_STEP_ROOT);
    for (unsigned i = 0; i < SLOTS; i++)
        CHECK_EQ(slots[i].root, 0);
    close_fd(&pair[0]);
    close_fd(&pair[1]);
}

TEST_MAIN(TEST(one_that_waits_for_another_kind_says_so),
          TEST(one_of_an_unknown_environment_gets_no_slot))
