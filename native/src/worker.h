/* The worker's own state: slot.c keeps one slot, queue.c finds one for a job, worker.c loops. */
#ifndef WORKER_H
#define WORKER_H

#include <semaphore.h>

#include "internal.h"

enum slot_state {
    SLOT_EMPTY,     /* nothing there; built as soon as retry_at has come */
    SLOT_BUILDING,  /* the builder runs, or init prepares the slot for the first time */
    SLOT_IDLE,      /* a prepared process waits */
    SLOT_RUNNING,   /* a job is in it */
    SLOT_RESETTING, /* the job has ended; init makes the slot as it was */
    SLOT_DYING,     /* killed; over when init's pidfd says so */
};

/* The thread that reads what a slot's job prints. */
struct reader {
    bool exists;
    bool works; /* the output is the thread's */
    bool full;  /* more came than the job may print */
    sem_t go, done;
    int stop; /* eventfd: the output is wanted back */
    int tell; /* eventfd, the worker's: look who is full */
    int fd[2];
    struct output *output;
};

struct slot {
    enum slot_state state;
    unsigned index;
    uint32_t generation; /* tells events of an earlier life of this slot */
    int builder;         /* its pidfd, until it is waited for */
    int sock, init_pidfd;
    pid_t job_pid;     /* of the prepared process, then of the program */
    unsigned failures; /* in a row, of building */
    int output_fd[2], writer_fd[2];
    int tmpfs, network;
    int shared_fd;       /* the memory `shared` is in */
    int mount_namespace; /* of this life, or of the last one while the next is not made */
    struct slot_shared *shared;
    struct cgroup cgroup;
    struct output output;
    struct reader reader;

    uint32_t mounts;    /* what it is built with: extra directories, */
    uint32_t root;      /* and an environment, or 0 */
    uint32_t tenant;    /* whose jobs it has run, once jobs_run > 0, */
    uint32_t partition; /* and which of the tenant's */
    uint64_t jobs_run;  /* in this life */
    uint64_t held_by;   /* the job whose next stage comes here */
    bool tainted;       /* must not be recycled */
    bool single_use;    /* ends with the job that is in it */
    bool for_warm;      /* one of those in which an interpreter waits, for programs that want it */
    bool warm;          /* and it does */
    bool lo_up;
    bool lost;              /* killed, and not dead when it should have been */
    bool active;            /* a job is in it and has not been reported */
    enum sbx_reason reason; /* why the job was killed; 0 while it was not */
    uint32_t disk_inodes;
    uint64_t disk_bytes;
    uint64_t lost_job; /* the one that was in it then, or 0 */
    uint64_t idle_ns;  /* since when it is idle, or empty */

    struct sbx_job job;  /* that job */
    uint64_t started_ns; /* when the job message was sent */
    uint64_t killed_ns;
    uint64_t deadline_ns; /* wall limit, or the limit of building and resetting */
    uint64_t next_cpu_ns; /* when the CPU limit can be reached at the earliest */
    uint64_t cpu_ns;      /* of the job, when it was last looked at */
    uint64_t read_ns;     /* when the reader is to read what it has printed */
    struct cpu *cpu;      /* the job's own; NULL without dedicated_cpus */
    uint64_t retry_at_ns;
};

/* A processor that jobs have to themselves. */
struct cpu {
    unsigned number;
    bool taken;
};

/* A job that waits for a slot. */
struct waiting {
    bool used;
    uint64_t order;
    struct sbx_job job;
    char *blob;
    struct fds fds;
    unsigned stowed_count; /* or so many descriptors are in this socket */
    int stowed;
};

/* The root directory of an environment. */
struct environment {
    uint64_t id; /* 0: none */
    int directory;
};

struct worker {
    const struct config *config;
    int sock;
    int epoll;
    int keeper;
    int full;                 /* eventfd: a job has printed more than it may */
    unsigned cpus;            /* of the machine */
    unsigned dedicated_count; /* those that jobs have to themselves */
    struct cpu *dedicated;
    bool recycles;
    bool stopping;
    bool orphaned;          /* the keeper is dead */
    bool wanting;           /* a job may run, and waits for a slot that can serve it */
    bool scarce;            /* that, or fewer slots are ready than jobs may run */
    uint64_t last_start_ns; /* of a job */
    unsigned running;       /* jobs in slots; config->slots at most, but for second stages */
    unsigned lost;          /* slots */
    unsigned slot_count, waiting_count;
    struct slot *slot;
    struct waiting *waiting;
    struct environment environment[SBX_MAX_ROOTS];
    uint64_t order;
    struct sbx_stats stats;
};

/* What an event is about; with slot index and generation in epoll_data. */
enum source {
    FROM_DAEMON,
    FROM_KEEPER,
    FROM_READER,
    FROM_SLOT,
    FROM_BUILDER,
    FROM_INIT,
    FROM_OUTPUT,
    FROM_OOM
};

/* ---- worker.c ---- */

int worker_watch(struct worker *worker, int fd, uint32_t events, enum source source,
                 const struct slot *slot);
/* Before it is closed: as long as anybody has a copy, the kernel would go on telling of it. */
void worker_unwatch(struct worker *worker, int fd);
/* The directory of an environment; -1 for 0. */
int worker_root(const struct worker *worker, uint64_t id);
/* Sends one message to sandboxd, which always reads. */
void worker_send(struct worker *worker, const struct iovec *parts, size_t count,
                 const struct fds *fds);

/* ---- cpus.c ---- */

int cpus_find(struct worker *worker);
/* Whether no further job can have one; never where jobs have none to themselves. */
bool cpus_are_taken(struct worker *worker);
void cpus_take(struct worker *worker, struct slot *slot);
void cpus_give_back(struct slot *slot);

/* ---- reader.c ---- */

int reader_init(struct reader *reader);
/* Lets it read the two pipes; `tell` is written to when one is full. */
int reader_start(struct reader *reader, struct output *output, const int fd[2], int tell);
/* Takes the output back; nobody may be left who can write to the pipes. */
void reader_stop(struct reader *reader);
bool reader_is_full(const struct reader *reader);

/* ---- closer.c ---- */

/* As fds_close(), and waits for nobody who may have the other ends. */
void close_aside(struct fds *fds);

/* ---- life.c ---- */

static const uint64_t SETUP_NS = 10000000000; /* for building, set-up, reset and the end */

int slot_init(struct slot *slot, const struct config *config, unsigned index);
void slot_build(struct worker *worker, struct slot *slot);
/* One message of the slot. Returns as message_receive() does. */
ssize_t slot_receive(struct slot *slot, struct slot_msg *ret, struct fds *ret_fds, pid_t *ret_pid);
/* The builder says that it has made init. */
void slot_cloned(struct worker *worker, struct slot *slot, struct fds *fds);
/* Whether it has not ended yet. The kernel may hold it up: it is not waited for in the loop. */
bool slot_has_builder(struct worker *worker, struct slot *slot);
void slot_close_output(struct worker *worker, struct slot *slot);
/* Whether its environment was removed while it was being made. */
bool slot_lost_root(const struct worker *worker, struct slot *slot);
void slot_report_failure(struct worker *worker, struct slot *slot, struct fault fault);
/* Kills it, whatever it is doing. */
void slot_retire(struct worker *worker, struct slot *slot);
/* The same, for a reason that is to be told where it was being made. */
void slot_give_up(struct worker *worker, struct slot *slot, struct fault fault);
/* It was retired, and its time for that is over. */
void slot_lose(struct worker *worker, struct slot *slot);
/* Init is dead and waited for. */
void slot_tear_down(struct worker *worker, struct slot *slot);

/* ---- slot.c ---- */

/* Starts a job in an idle slot. On failure the job is reported and the slot retired. */
void slot_start(struct worker *worker, struct slot *slot, struct waiting *waiting);
/* To the main process, if it still runs. */
void slot_signal_job(struct slot *slot, int number);
void slot_kill_job(struct worker *worker, struct slot *slot, enum sbx_reason reason);
void slot_event(struct worker *worker, struct slot *slot, enum source source);
/* Acts on what is due; returns when something will be, UINT64_MAX for never. */
uint64_t slot_due(struct worker *worker, struct slot *slot, uint64_t now);
uint64_t slot_next(const struct worker *worker, const struct slot *slot);
/* Some reader says that its pipes have had more than the job may print. */
void slot_end_full(struct worker *worker);

/* ---- result.c ---- */

/* Reports the job of this slot; end is what init said, or NULL when the slot was killed. Returns
 * why the job ended. */
enum sbx_reason result_send(struct worker *worker, struct slot *slot, const struct slot_msg *end);
/* Of a slot that was killed and does not die: what the job printed is not known. */
void result_send_lost(struct worker *worker, struct slot *slot);
/* For a job that never got into a slot. */
void result_send_unstarted(struct worker *worker, const struct sbx_job *job, enum sbx_reason reason,
                           struct fault fault);

/* ---- queue.c ---- */

struct waiting *queue_free(struct worker *worker);
void queue_add(struct worker *worker, struct waiting *waiting);
/* Starts what can be started; called when a job came or a slot changed. */
void queue_run(struct worker *worker);
void queue_drop(struct waiting *waiting);
/* Whether the slot is built with what the job wants. */
bool queue_same_base(const struct slot *slot, const struct sbx_job *job);
/* Reports the jobs that wait for a slot such as this: it cannot be made. */
void queue_fail(struct worker *worker, const struct slot *slot, struct fault fault);
struct waiting *queue_find(struct worker *worker, uint64_t job_id);

#endif
