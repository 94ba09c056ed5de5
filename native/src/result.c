/* The one report of each job: why it ended, what it used, what it printed. */
#define _GNU_SOURCE
#include <sys/uio.h>

#include "worker.h"

struct payload {
    struct iovec part[4]; /* the struct, stdout, stderr, segments */
};

/* What init would have said, had the slot not been killed. What it used of the CPU to reap is in
 * the figure then. */
static struct slot_msg killed(const struct slot *slot) {
    const struct slot_shared *shared = slot->shared;
    struct slot_msg end = {.exec_ns = shared->exec_ns,
                           .end_ns = slot->killed_ns,
                           .signal = SIGKILL,
                           .fault = shared->fault};
    cgroup_usage(&slot->cgroup, &shared->base, shared->memory, &end.usage);
    end.usage.cpu_ns =
        less(end.usage.cpu_ns, shared->setup_cpu_ns + shared->init_cpu_ns + shared->warm_cpu_ns);
    return end;
}

static void measured(const struct slot *slot, const struct slot_msg *end, struct sbx_result *ret) {
    ret->cpu_time_ns = end->usage.cpu_ns;
    /* Some kernels count a process's time in ticks: what it was killed for, it has used. */
    if (slot->reason == SBX_REASON_CPU_TIME && ret->cpu_time_ns < slot->cpu_ns)
        ret->cpu_time_ns = slot->cpu_ns;
    ret->wall_time_ns = end->exec_ns ? less(end->end_ns, end->exec_ns) : 0;
    ret->memory_bytes = end->usage.memory;
    ret->memory_peak_bytes = end->usage.memory_peak;
    ret->memory_source = slot->cgroup.version == 2 ? SBX_MEMORY_V2_PEAK : SBX_MEMORY_V1_MAX;
    ret->process_limit_hits = (uint32_t)end->usage.process_limit_hits;
    ret->step = end->fault.step;
    ret->error = end->fault.error;
    ret->exit_code = end->exit_code;
    ret->signal = end->signal;
}

/* Everything that could write is dead. */
static void drain(struct slot *slot, struct sbx_result *ret) {
    struct output *output = &slot->output;
    reader_stop(&slot->reader);
    slot->read_ns = UINT64_MAX;
    for (unsigned i = 0; i < 2; i++)
        if (slot->output_fd[i] >= 0)
            (void)output_read(output, i, slot->output_fd[i], UINT64_MAX);
    ret->stdout_len = output->len[0];
    ret->stderr_len = output->len[1];
    ret->segments = output->segments;
    if (output->truncated[0])
        ret->flags |= SBX_RESULT_STDOUT_TRUNCATED;
    if (output->truncated[1])
        ret->flags |= SBX_RESULT_STDERR_TRUNCATED;
}

/* Whatever became of the program, the result is not what it printed. */
static void not_kept(struct sbx_result *ret, int error) {
    ret->reason = SBX_REASON_HELPER;
    ret->step = SBX_STEP_OUTPUT;
    ret->error = error;
}

/* In the order in which one explains the other: a program that was killed for memory also exited
 * somehow; one that printed too much may also have run too long. */
static void decide(struct slot *slot, struct sbx_result *ret) {
    const struct sbx_limits *limits = &slot->job.limits;
    if (cgroup_oom(&slot->cgroup) || slot->reason == SBX_REASON_MEMORY)
        ret->reason = SBX_REASON_MEMORY;
    else if (slot->output.error && !slot->lost &&
             (!slot->reason || slot->reason == SBX_REASON_OUTPUT))
        not_kept(ret, slot->output.error);
    else if (slot->reason)
        ret->reason = slot->reason;
    else if (ret->step)
        ret->reason = SBX_REASON_SETUP;
    else if (ret->flags & (SBX_RESULT_STDOUT_TRUNCATED | SBX_RESULT_STDERR_TRUNCATED))
        ret->reason = SBX_REASON_OUTPUT;
    else if (ret->cpu_time_ns > limits->cpu_time_ns)
        ret->reason = SBX_REASON_CPU_TIME;
    else if (ret->wall_time_ns > limits->wall_time_ns)
        ret->reason = SBX_REASON_WALL_TIME;
    else
        ret->reason = ret->signal ? SBX_REASON_SIGNALED : SBX_REASON_EXITED;
}

static void send_payload(struct worker *worker, struct output *output, struct sbx_result *result) {
    const struct payload payload = {{{result, sizeof *result},
                                     {output->data[0], result->stdout_len},
                                     {output->data[1], result->stderr_len},
                                     {output->segment, result->segments * sizeof(uint32_t)}}};
    struct fds fds = {0};
    size_t parts = 4;
    uint64_t bytes = result->stdout_len + result->stderr_len + result->segments * sizeof(uint32_t);
    if (bytes > SBX_INLINE_OUTPUT) {
        parts = 1;
        fds.fd[0] = output_give_away(output);
        fds.count = fds.fd[0] >= 0;
        result->flags |= SBX_RESULT_MEMFD;
        result->stride = output->stride;
        if (!fds.count) {
            not_kept(result, errno);
            result->flags &= ~(uint32_t)SBX_RESULT_MEMFD;
            result->stdout_len = result->stderr_len = result->segments = 0;
        }
    }
    worker_send(worker, payload.part, parts, &fds);
    fds_close(&fds);
}

static void job_over(struct worker *worker, struct slot *slot) {
    slot->active = false;
    worker->running--;
    worker->stats.jobs++;
}

enum sbx_reason result_send(struct worker *worker, struct slot *slot, const struct slot_msg *end) {
    struct sbx_result result = {.type = SBX_MSG_RESULT, .job_id = slot->job.job_id};
    struct slot_msg last;
    if (!end) {
        last = killed(slot);
        end = &last;
    }
    measured(slot, end, &result);
    if (slot->reason && end->exec_ns && slot->killed_ns < end->end_ns)
        result.wall_time_ns = less(slot->killed_ns, end->exec_ns); /* to the kill */
    drain(slot, &result);
    decide(slot, &result);
    if (slot->held_by == slot->job.job_id)
        result.flags |= SBX_RESULT_HELD;
    struct output *output = &slot->output;
    send_payload(worker, output, &result);
    output_end(output);
    job_over(worker, slot);
    if (!(result.flags & SBX_RESULT_HELD))
        cpus_give_back(slot);
    return result.reason;
}

void result_send_lost(struct worker *worker, struct slot *slot) {
    struct sbx_result result = {
        .type = SBX_MSG_RESULT, .job_id = slot->job.job_id, .flags = SBX_RESULT_LOST};
    struct iovec part = {&result, sizeof result};
    struct slot_msg end = killed(slot);
    if (!slot->reason)
        slot->reason = SBX_REASON_HELPER;
    measured(slot, &end, &result);
    decide(slot, &result);
    worker_send(worker, &part, 1, NULL);
    job_over(worker, slot);
    cpus_give_back(slot); /* what waits in the kernel needs none */
}

void result_send_unstarted(struct worker *worker, const struct sbx_job *job, enum sbx_reason reason,
                           struct fault fault) {
    struct sbx_result result = {.type = SBX_MSG_RESULT,
                                .reason = reason,
                                .job_id = job->job_id,
                                .step = fault.step,
                                .error = fault.error};
    struct iovec part = {&result, sizeof result};
    worker_send(worker, &part, 1, NULL);
    worker->stats.jobs++;
}
