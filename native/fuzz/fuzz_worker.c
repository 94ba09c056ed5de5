/*
 * The worker, which has all the privilege, between two peers that may be anybody's: sandboxd, which
 * has none and reads clients' bytes, and the processes of a slot, one of which was a job's a moment
 * ago. The input says what either sends, and when; worker.c, life.c, slot.c, queue.c, message.c,
 * result.c and output.c are the helper's own.
 *
 * A slot's first messages come from the builder and from an init in which nothing has run yet; they
 * are what they should be. Whatever comes after the first SLOT_READY may be anything.
 */
#define _GNU_SOURCE
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "worker_world.h"

enum { MOST_RAW = 66000, OUTPUT_MAX = 100000 };

struct world world;

/* ---- sandboxd ---- */

/* Now and then 0, which no job has. */
static uint64_t take_id(struct input *input) {
    uint8_t byte = take_byte(input);
    return byte == 255 ? 0 : 1 + byte % JOB_IDS;
}

static void count_job(const struct sbx_job *job, size_t len) {
    if (len >= sizeof *job && job->type == SBX_MSG_JOB)
        world.jobs[job->job_id % JOB_IDS]++;
}

static void send_job(struct input *input) {
    static struct {
        struct sbx_job job;
        char blob[SBX_INLINE_BLOB];
    } message;
    struct sbx_job *job = &message.job;
    uint8_t odd = take_byte(input);
    size_t len = sizeof *job + take_byte(input);
    *job = (struct sbx_job){.type = SBX_MSG_JOB,
                            .flags = take_byte(input),
                            .job_id = take_id(input),
                            .tenant = take_byte(input) % 2,
                            .mode = take_byte(input) % 4 == 3,
                            .limits = {.cpu_time_ns = 1000000000,
                                       .wall_time_ns = 2000000000,
                                       .memory_bytes = 64 << 20,
                                       .output_bytes = 1 << 16}};
    if (odd & 1)
        job->after = take_id(input);
    if (odd & 2)
        job->root = take_byte(input) % 3;
    if (odd & 4)
        job->mounts = take_byte(input) % 3;
    if (odd & 8)
        job->limits.wall_time_ns = take_number(input);
    if (odd & 16)
        job->limits.cpu_time_ns = take_number(input);
    if (odd & 32)
        job->limits.output_bytes = take_number(input);
    if (odd & 64)
        job->partition = take_byte(input) % 2;
    if (odd & 128)
        take_bytes(input, &job->limits, sizeof job->limits);
    uint8_t fds = take_byte(input);
    if (fds & 64)
        job->flags |= SBX_JOB_PASSED;
    if (fuzz_send(world.daemon, &message, len, fds % 8 < 6 ? fds % 8 : 0, fds / 8))
        count_job(job, len);
}

static void send_control(struct input *input) {
    uint8_t what = take_byte(input);
    struct sbx_control control = {.type = what % 8, .job_id = take_id(input)};
    control.value = what & 0x80 ? (uint32_t)take_number(input) : SBX_REASON_CANCELLED;
    unsigned fds = what / 16 % 4;
    if (control.type == SBX_MSG_JOB) /* too short to be one */
        control.type = SBX_MSG_ROOT;
    (void)fuzz_send(world.daemon, &control, sizeof control,
                    control.type == SBX_MSG_ROOT && !fds ? 1 : fds, 5);
}

static void send_raw(struct input *input) {
    static char bytes[MOST_RAW];
    uint8_t size = take_byte(input), fds = take_byte(input);
    size_t len = size < 200 ? size : 65500u + size;
    take_bytes(input, bytes, len < 256 ? len : 256);
    struct sbx_job job;
    memcpy(&job, bytes, sizeof job);
    if (fuzz_send(world.daemon, bytes, len, fds % 20, fds / 20) &&
        len <= sizeof job + SBX_INLINE_BLOB && fds % 20 <= MAX_FDS)
        count_job(&job, len);
}

static void check_result(const struct sbx_result *result, size_t len, const struct fds *fds) {
    uint64_t bytes = result->stdout_len + result->stderr_len + result->segments * 4ull;
    struct stat st = {0};
    FUZZ_CHECK(result->stdout_len <= OUTPUT_MAX && result->stderr_len <= OUTPUT_MAX);
    FUZZ_CHECK(result->segments <= SBX_MAX_SEGMENTS);
    FUZZ_CHECK(fds->count == !!(result->flags & SBX_RESULT_MEMFD));
    if (fds->count)
        FUZZ_CHECK(len == sizeof *result && fstat(fds->fd[0], &st) == 0 &&
                   result->stride >= OUTPUT_MAX && bytes > SBX_INLINE_OUTPUT &&
                   (uint64_t)st.st_size >= 2 * result->stride + result->segments * 4ull);
    else
        FUZZ_CHECK(len == sizeof *result + bytes);
    FUZZ_CHECK(world.jobs[result->job_id % JOB_IDS]-- > 0); /* one for each job */
    world.lost[result->job_id % JOB_IDS] += !!(result->flags & SBX_RESULT_LOST);
}

void daemon_drain(void) {
    static struct {
        union {
            struct sbx_result result;
            struct sbx_control control;
        };
        char payload[SBX_INLINE_OUTPUT + SBX_MAX_SEGMENTS];
    } message;
    struct iovec part = {&message, sizeof message};
    struct fds fds;
    ssize_t n;
    while ((n = message_receive(world.daemon, &part, 1, &fds, NULL, MSG_DONTWAIT)) > 0) {
        if (message.result.type == SBX_MSG_RESULT)
            check_result(&message.result, (size_t)n, &fds);
        else if (message.result.type == SBX_MSG_GONE)
            FUZZ_CHECK(world.lost[message.control.job_id % JOB_IDS]-- > 0);
        else
            FUZZ_CHECK(!fds.count && message.result.type >= SBX_MSG_HELLO &&
                       message.result.type <= SBX_MSG_SLOT_ERROR);
        fds_close(&fds);
    }
}

/* ---- slots ---- */

static void say(struct life *life, uint32_t type, const struct fds *fds) {
    struct slot_msg msg = {.type = type};
    struct iovec part = {&msg, sizeof msg};
    (void)message_send(life->sock, &part, 1, fds);
}

static ino_t remember(int fd) {
    struct stat st;
    FUZZ_CHECK(fd >= 0 && fstat(fd, &st) == 0);
    return st.st_ino;
}

static void say_cloned(struct life *life) {
    int ends[2];
    FUZZ_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    struct fds fds = {2, {ends[0], memfd_create("mounts", MFD_CLOEXEC)}};
    life->pidfd = remember(ends[0]);
    life->death = ends[1];
    life->phase = CLONED;
    say(life, SLOT_CLONED, &fds);
    fds_close(&fds);
}

static void say_built(struct life *life) {
    struct fds fds = {2, {memfd_create("tmpfs", MFD_CLOEXEC), memfd_create("net", MFD_CLOEXEC)}};
    close_fd(&life->builder_end); /* it has let init go, and ends */
    life->tmpfs = remember(fds.fd[0]);
    life->network = remember(fds.fd[1]);
    life->phase = BUILT;
    say(life, SLOT_BUILT, &fds);
    fds_close(&fds);
}

static void say_ready(struct life *life) {
    struct fds fds = {.count = 4};
    FUZZ_CHECK(pipe2(&fds.fd[0], O_CLOEXEC | O_NONBLOCK) == 0);
    FUZZ_CHECK(pipe2(&fds.fd[2], O_CLOEXEC | O_NONBLOCK) == 0);
    for (int i = 0; i < 2; i++) {
        close_fd(&life->writer[i]);
        life->writer[i] = fcntl(fds.fd[2 * i + 1], F_DUPFD_CLOEXEC, 3);
    }
    life->phase = WAITING;
    say(life, SLOT_READY, &fds);
    fds_close(&fds);
}

/* A recycled slot never passes from one tenant to another, nor has a job what it did not ask for.
 */
static void check_place(const struct life *life, const struct sbx_job *job) {
    FUZZ_CHECK(life->mounts == job->mounts);
    FUZZ_CHECK(!life->jobs ||
               (life->job.tenant == job->tenant && (job->mode == SBX_MODE_RECYCLED || job->after) &&
                life->job.partition == job->partition));
}

static void take_job(struct life *life) {
    static char blob[SBX_INLINE_BLOB];
    struct sbx_job job;
    struct iovec parts[] = {{&job, sizeof job}, {blob, sizeof blob}};
    struct fds fds;
    if (message_receive(life->sock, parts, 2, &fds, NULL, MSG_DONTWAIT) < (ssize_t)sizeof job)
        return;
    fds_close(&fds);
    check_place(life, &job);
    life->job = job;
    life->jobs++;
    life->shared->exec_ns = world.now;
    life->phase = WORKING;
}

static void say_end(struct life *life, struct input *input) {
    struct slot_msg msg = {.type = SLOT_END,
                           .exit_code = take_byte(input),
                           .exec_ns = life->shared->exec_ns,
                           .end_ns = world.now};
    struct iovec part = {&msg, sizeof msg};
    (void)message_send(life->sock, &part, 1, NULL);
    life->phase = ENDED;
}

void life_step(struct life *life, struct input *input) {
    if (life->phase == NOTHING || life->dead || life->stuck)
        return;
    if (life->phase == STARTED)
        say_cloned(life);
    else if (life->phase == CLONED)
        say_built(life);
    else if (life->phase == BUILT || life->phase == ENDED)
        say_ready(life);
    else if (life->phase == WAITING)
        take_job(life);
    else
        say_end(life, input);
}

void life_end(struct life *life) {
    if (life->phase == NOTHING || life->dead)
        return;
    life->dead = true;
    if (life->death >= 0)
        FUZZ_CHECK(write(life->death, "", 1) == 1); /* the pidfd is readable */
    close_fd(&life->death);
    close_fd(&life->builder_end);
    close_fd(&life->sock);
    close_fd(&life->writer[0]);
    close_fd(&life->writer[1]);
}

/* What a process of the slot can send once something else than ours may have run in it. */
static void say_anything(struct life *life, struct input *input) {
    char bytes[2 * sizeof(struct slot_msg)];
    uint8_t type = take_byte(input), fds = take_byte(input);
    if (life->dead || life->phase < WAITING)
        return;
    size_t len = type & 0x80 ? take_byte(input) % sizeof bytes : sizeof(struct slot_msg);
    take_bytes(input, bytes, type & 0x40 ? sizeof bytes : 0);
    if (!(type & 0x20)) {
        memset(bytes, 0, type & 0x40 ? 0 : sizeof bytes);
        memcpy(bytes, &(uint32_t){type % 8}, sizeof(uint32_t));
    }
    (void)fuzz_send(life->sock, bytes, len, fds % 10, fds / 10);
}

static void scribble(struct life *life, struct input *input) {
    uint8_t at = take_byte(input);
    uint64_t value = take_number(input);
    if (!life->dead && life->phase >= WAITING)
        memcpy((char *)life->shared + at % (sizeof *life->shared - 7), &value, sizeof value);
}

static void print(struct life *life, struct input *input) {
    static const char text[60000];
    uint8_t size = take_byte(input);
    int fd = life->phase == NOTHING ? -1 : life->writer[size & 1];
    if (fd >= 0 && write(fd, text, (size & 2 ? 235u : 1u) * (size / 4u)) < 0)
        FUZZ_CHECK(errno == EAGAIN || errno == EPIPE);
}

static void run_out_of_memory(unsigned index) {
    int oom = index < world.worker->slot_count ? world.slots[index].cgroup.oom : -1;
    if (oom >= 0)
        FUZZ_CHECK(eventfd_write(oom, 1) == 0);
}

/* ---- the play ---- */

static void act(struct input *input, uint8_t what, unsigned index) {
    struct life *life = &world.life[index];
    switch (what) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        life_step(life, input);
        break;
    case 5:
    case 6:
        send_job(input);
        break;
    case 7:
        send_control(input);
        break;
    case 8:
        send_raw(input);
        break;
    case 9:
    case 10:
        say_anything(life, input);
        break;
    case 11:
        print(life, input);
        break;
    case 12:
        scribble(life, input);
        break;
    case 13:
        world.now += take_number(input) % 20000000000u;
        world.cpu_ns += take_number(input) % 20000000000u;
        break;
    case 14:
        world.fail_next = index & 1;
        world.has = index & 2;
        break;
    default:
        if (index & 1)
            run_out_of_memory(take_byte(input) % SLOTS);
        else if (life->phase >= CLONED)
            life_end(life); /* by itself; a builder that has made no init is waited for */
    }
}

/* With nothing left to be said, every job must be reported once it is cancelled. */
static void cancel_all(void) {
    const struct worker *worker = world.worker;
    struct sbx_control control = {.type = SBX_MSG_KILL, .value = SBX_REASON_CANCELLED};
    for (unsigned i = 0; i < worker->waiting_count + worker->slot_count; i++) {
        if (i < worker->waiting_count && worker->waiting[i].used)
            control.job_id = worker->waiting[i].job.job_id;
        else if (i >= worker->waiting_count && worker->slot[i - worker->waiting_count].active)
            control.job_id = worker->slot[i - worker->waiting_count].job.job_id;
        else
            continue;
        (void)fuzz_send(world.daemon, &control, sizeof control, 0, 0);
    }
}

static bool all_reported(void) {
    for (unsigned i = 0; i < JOB_IDS; i++)
        if (world.jobs[i])
            return false;
    return true;
}

/* What keeps them from dying does not last for ever. */
static void end_stuck(void) {
    for (unsigned i = 0; i < SLOTS; i++)
        if (world.life[i].stuck)
            life_end(&world.life[i]);
}

bool play(struct input *input) {
    world.over |= !input->left;
    if (world.over && world.quiet)
        end_stuck();
    while (input->left) {
        uint8_t byte = take_byte(input);
        act(input, byte % 16, byte / 16 % 4);
        if (byte & 0x80)
            return false; /* the worker's turn */
    }
    if (!world.over || !world.quiet || world.worker->stopping)
        return true;
    if (all_reported())
        (void)shutdown(world.daemon, SHUT_WR);
    else
        cancel_all();
    return true;
}

static struct config make_config(struct input *input) {
    uint8_t kind = take_byte(input);
    return (struct config){.slots = 2,
                           .spare = 1,
                           .warm = kind & 1,
                           .uid_base = kind >> 1 & 1,
                           .dedicated_cpus = kind >> 2 & 1,
                           .output_max = OUTPUT_MAX,
                           .disk_bytes = 1 << 20,
                           .memory_bytes = 64 << 20,
                           .processes = 16,
                           .cgroup_version = 1};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    unsigned before = fuzz_count_fds();
    int pair[2];
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    struct config config = make_config(&input);
    world = (struct world){.input = &input, .daemon = pair[1], .now = 1000000000};
    int keeper = eventfd(0, EFD_CLOEXEC); /* lives */
    FUZZ_CHECK(keeper >= 0 && worker_run(&config, pair[0], keeper) == 0);
    free(world.slots);
    close_fd(&keeper);
    close_fd(&pair[0]);
    close_fd(&pair[1]);
    FUZZ_CHECK(fuzz_count_fds() == before);
    return 0;
}
