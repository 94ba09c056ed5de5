/*
 * What stands around the worker when it is fuzzed: slots that are no processes, a clock that goes
 * when nothing else happens, and the checks of what must hold whatever anybody sends.
 */
#ifndef WORKER_WORLD_H
#define WORKER_WORLD_H

#include "fuzz.h"
#include "worker.h"

enum { SLOTS = 4, JOB_IDS = 16 };

/* What a slot is in truth, from builder_start() to the end of its init. */
struct life {
    enum { NOTHING, STARTED, CLONED, BUILT, WAITING, WORKING, ENDED } phase;
    struct slot_shared *shared;
    int sock;      /* the slot's end */
    int death;     /* the write end of the pipe that stands for init's pidfd */
    int writer[2]; /* of stdout and stderr */
    ino_t pidfd, tmpfs, network;
    int builder_end; /* as death, of the builder */
    ino_t builder;   /* its pidfd, until it is waited for */
    bool stuck;      /* killed, and does not die yet */
    bool dead;
    uint32_t mounts;
    struct sbx_job job; /* the last one */
    unsigned jobs;
};

struct world {
    struct input *input;
    int daemon; /* sandboxd's end */
    const struct worker *worker;
    struct life life[SLOTS];
    uint64_t now;
    uint64_t cpu_ns;
    bool fail_next, has;
    int jobs[JOB_IDS]; /* sent less reported */
    int lost[JOB_IDS]; /* reported as lost less reported as gone */
    unsigned spins, rounds;
    bool over;  /* the input is used up */
    bool quiet; /* there was nothing to do but to wait */
    struct slot *slots;
    unsigned fds; /* open before */
};

extern struct world world;

/* A decision of the input: should what is called now fail? */
bool world_fails(void);
/* What comes next, as it does when nobody is hostile. */
void life_step(struct life *life, struct input *input);
void life_end(struct life *life);
/* Plays until the worker has something to do, or for good. Returns whether the input is used up. */
bool play(struct input *input);
/* Takes what the worker sent. */
void daemon_drain(void);

#endif
