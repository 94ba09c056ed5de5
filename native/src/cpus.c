/*
 * Which processor is whose, where each job has one of its own (dedicated_cpus).
 *
 * Theory of operation. The worker says in a job's message which processor it is; the prepared
 * process keeps to it (affinity.c). It is free again with the job's result; a slot that is held for
 * the job's next stage keeps it, and with it one of the places for jobs.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>

#include "worker.h"

int cpus_find(struct worker *worker) {
    cpu_set_t ours;
    if (!worker->config->dedicated_cpus)
        return 0;
    if (sched_getaffinity(0, sizeof ours, &ours) < 0)
        return -1;
    worker->dedicated = calloc((size_t)CPU_COUNT(&ours), sizeof *worker->dedicated);
    for (unsigned number = 0; worker->dedicated && number < CPU_SETSIZE; number++)
        if (CPU_ISSET(number, &ours))
            worker->dedicated[worker->dedicated_count++].number = number;
    return worker->dedicated ? 0 : -1;
}

static struct cpu *find_free(struct worker *worker) {
    for (unsigned i = 0; i < worker->dedicated_count; i++)
        if (!worker->dedicated[i].taken)
            return &worker->dedicated[i];
    return NULL;
}

bool cpus_are_taken(struct worker *worker) {
    return worker->config->dedicated_cpus && !find_free(worker);
}

void cpus_take(struct worker *worker, struct slot *slot) {
    if (!slot->cpu)
        slot->cpu = find_free(worker);
    if (slot->cpu)
        slot->cpu->taken = true;
}

void cpus_give_back(struct slot *slot) {
    if (slot->cpu)
        slot->cpu->taken = false;
    slot->cpu = NULL;
}
