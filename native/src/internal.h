/*
 * What the parts of the helper know of each other; one section for each file.
 *
 * Theory of operation. Four kinds of process run this program:
 *
 *   keeper   root; starts the worker, starts it again when it dies, removes what it left.
 *   worker   root; one epoll loop: takes jobs from sandboxd, keeps slots ready, enforces limits,
 *            reads output, accounts, kills, reports. Parses nothing a client wrote.
 *   init     pid 1 of a slot, root only in the slot's own user namespace, under the seccomp
 *            filter: forks the prepared process, reaps, resets the slot, proves it clean.
 *   job      the prepared process: no privilege left, waits for a job message, parses the blob,
 *            writes the input files and becomes the program.
 *
 * A slot has one SOCK_SEQPACKET socket. The worker writes the job message to it (the prepared
 * process is its only reader); init and the prepared process write struct slot_msg. What needs no
 * wake-up travels in struct slot_shared, a page that is gone from the job's memory with its exec.
 */
#ifndef INTERNAL_H
#define INTERNAL_H

#include <stdbool.h>

#include "sandbox.h"
#include "sys.h"

enum {
    INIT_UID = 0, /* this and the next two: in the slot's user namespace */
    JOB_UID = 1000,
    GUEST_UID = 1001, /* of a job that must not touch what is another's in its slot */
    INIT_UMASK = 022,
    MAX_READONLY = 64,
    MAX_FDS = 5,          /* most descriptors in one message */
    COUNTER_FDS = 6,      /* of the cgroup, for init */
    WARM_ROOM = 64 << 20, /* memory that an interpreter may need to start */
};

/* Neither goes round: limits and what a slot says may be any number. */
static inline uint64_t at_most(uint64_t value, uint64_t most) {
    return value < most ? value : most;
}
static inline uint64_t less(uint64_t from, uint64_t what) { return from > what ? from - what : 0; }
static inline uint64_t more(uint64_t than, uint64_t by) {
    return by > UINT64_MAX - than ? UINT64_MAX : than + by;
}

/* ---- helper.c: the configuration, from the administrator through sandboxd's command line ---- */

/* v2 uses CG_MEMORY alone. Of v1's the last may be missing: where the kernel has no shares of CPU
 * time for groups, or has them in the hierarchy of CG_CPUACCT. */
enum cgroup_kind { CG_MEMORY, CG_PIDS, CG_CPUACCT, CG_CPU, CG_KINDS };

struct extra_mount {
    const char *source;
    const char *target;
};

struct config {
    int ctl;
    unsigned slots; /* jobs at once */
    unsigned spare; /* further slots, so that one is ready while others are made or reset */
    uint32_t uid_base;
    uint64_t output_max;
    uint64_t disk_bytes;
    uint32_t disk_inodes;
    uint64_t memory_bytes; /* this and the next: the usual limits, which a slot is made with */
    uint32_t processes;
    bool core_scheduling;
    bool dedicated_cpus;
    unsigned warm; /* further slots in which an interpreter waits */
    const char *interpreter;
    int warm_program, warm_module, warm_known; /* files it is started with; -1: none */
    char **warm_env;                           /* ends with NULL */
    size_t warm_env_count;
    unsigned cgroup_version;
    const char *cgroup[CG_KINDS];
    unsigned readonly_count;
    struct extra_mount readonly[MAX_READONLY];
    unsigned mount_count;
    struct extra_mount mounts[SBX_MAX_MOUNTS];
};

/* ---- keeper.c ---- */

int keeper_run(const struct config *config);
/* A cgroup that sandboxd made and somebody has removed, or NULL. */
const char *keeper_lost_parent(const struct config *config);
/* The last act of whoever is left: the cgroups that sandboxd made. */
void keeper_remove_parents(const struct config *config);
/* Ignores the terminal's and the service manager's signals, which are for sandboxd, whose end is
 * the helper's; or, with SIG_DFL, takes that back for those who inherit it. */
void keeper_signals(void (*handler)(int));

/* ---- check.c ---- */

int sbx_check(void);

/* ---- fault.c: an error is the step that failed and its errno ---- */

struct fault {
    uint32_t step;
    int32_t error;
};

/* Returns -1 with *fault set from errno, so that callers can write `return fail(…)`. */
int fail(struct fault *fault, enum sbx_step step);

/* ---- message.c: one message with descriptors ---- */

struct fds {
    unsigned count;
    int fd[MAX_FDS];
};

void fds_close(struct fds *fds);
/* Returns the bytes sent or -1. */
ssize_t message_send(int sock, const struct iovec *parts, size_t count, const struct fds *fds);
/* Returns the bytes received, 0 at the end, or -1 (EMSGSIZE where the message was cut off or had
 * more than MAX_FDS descriptors; none is left open then). *pid is the sender's, where pid is not
 * NULL and the socket has SO_PASSCRED. */
ssize_t message_receive(int sock, const struct iovec *parts, size_t count, struct fds *ret_fds,
                        pid_t *ret_pid, int flags);

/* ---- slot.c: what worker, init and job share about one slot ---- */

enum slot_msg_type {
    SLOT_CLONED = 1, /* from the builder, with init's pidfd and its mount namespace */
    SLOT_BUILT,      /* from init, with the tmpfs mount and a socket of the slot's network */
    SLOT_READY,      /* from the prepared process, with both ends of its output pipes */
    SLOT_END,        /* from init: the main process ended, nothing else is left */
    SLOT_UNCLEAN,    /* from init: the slot cannot be proved clean, use another */
    SLOT_FAILED,     /* from the builder or init: the slot could not be made */
};

/* What a job used. */
struct usage {
    uint64_t cpu_ns;
    uint64_t memory_peak;
    uint64_t memory;      /* the peak less the page cache that the job left */
    uint64_t memory_most; /* the peak, if what has gone since base had gone before it was reached */
    uint64_t process_limit_hits;
};

struct slot_msg {
    uint32_t type;
    struct fault fault; /* with SLOT_END: set when the job's process gave up before its exec */
    /* with SLOT_END */
    int32_t exit_code;
    int32_t signal;
    uint32_t warm;    /* with SLOT_READY: a fork of the waiting interpreter */
    uint64_t exec_ns; /* CLOCK_MONOTONIC; 0 when it never came to the exec */
    uint64_t end_ns;  /* when the main process was reaped */
    struct usage usage;
};

/* The cgroup's counters where the next job's use begins. */
struct base {
    uint64_t cpu_ns;
    uint64_t pids_hits;
    uint64_t memory;     /* in use when the slot became ready */
    uint64_t files;      /* of it, the files of a held slot's earlier stage */
    uint64_t own_memory; /* the same when it was new: what init and the slot itself need */
    uint64_t warm;       /* of it, the waiting interpreter's */
    uint64_t cache;      /* of memory, the page cache of an earlier stage; 0 where it is little */
    uint64_t peak;       /* an earlier stage's, where the kernel cannot forget it; or 0 */
};

struct slot_shared {
    /* written by init; read by the worker while a job runs or when it killed one */
    struct base base;
    uint64_t init_cpu_ns; /* what init used since base, up to where it waits for the job */
    uint64_t served;      /* jobs, with the one that runs or is awaited */
    /* written by the waiting interpreter */
    uint64_t warm_cpu_ns; /* what it used since base */
    /* written by the prepared process, zeroed by init before */
    uint64_t exec_ns;      /* CLOCK_MONOTONIC just before exec; 0 until then */
    uint64_t setup_cpu_ns; /* its own CPU time up to that point */
    struct fault fault;    /* set when it gave up */
    /* written by the worker before it sends a job */
    uint32_t keep;        /* do not reset: a further stage will use the work directory */
    uint32_t single_use;  /* do not reset: the slot ends with this job */
    uint32_t guest;       /* the next prepared process is the guest's */
    uint64_t memory;      /* what the cgroup is limited to */
    uint64_t next_memory; /* with keep: the further stage's limit; 0: not known */
    uint64_t stop;        /* with SIGTERM to init: the slot's how-manieth job is to be killed */
};

struct cgroup;

/* What a slot is made of; constant for its life. */
struct slot_plan {
    const struct config *config;
    struct slot_shared *shared;
    int shared_fd;   /* the memory it is in */
    int sock;        /* the slot's end */
    unsigned index;  /* chooses the host uids */
    uint32_t mounts; /* which extra directories */
    int tree;        /* the environment's root, a mount of its own; -1 for the host's directories */
    bool warm;       /* start an interpreter that waits for programs */
    const struct cgroup *cgroup;
};

/* The limits that a slot is made with, until a job comes. */
static inline uint64_t slot_memory(const struct config *config, bool warm) {
    return config->memory_bytes + (warm ? WARM_ROOM : 0);
}

static inline uint32_t slot_processes(const struct config *config, bool warm) {
    return config->processes + warm;
}

/* ---- builder.c: from plan to init ---- */

/* Forks the builder. The root, where it is not -1, is the directory of an environment. Returns its
 * pidfd, or -1. */
int builder_start(struct slot_plan *plan, int root);

/* ---- mount.c: the job's root file system ---- */

enum { IPC_SHM, IPC_SEM, IPC_MSG, IPC_KINDS };

struct root {
    int last_pid;           /* /proc/sys/kernel/ns_last_pid, open for writing, or -1 */
    int next_id[IPC_KINDS]; /* /proc/sys/kernel/{shm,sem,msg}_next_id, or -1 */
    int tmpfs;              /* the job's tmpfs: directories work, tmp, shm */
    int null;               /* /dev/null */
};

/* The host's directories that a slot shows, opened in its mount namespace. */
struct sources {
    int readonly[MAX_READONLY];
    int mounts[SBX_MAX_MOUNTS];
};

/* For init before it changes its uid: by then a directory may be beyond its reach, such as those in
 * the home of the user who runs sandboxd without root. What a job sees begins at the directory. */
int root_open_sources(const struct slot_plan *plan, struct sources *ret, struct fault *fault);
/* Closes the sources, unless it fails. */
int root_build(const struct slot_plan *plan, int tree, struct sources *sources, struct root *ret,
               struct fault *fault);
int tmpfs_resize(int mount, uint64_t bytes, uint32_t inodes);

/* ---- init.c ---- */

_Noreturn void init_main(const struct slot_plan *plan, int go);

/* ---- reap.c: the ends of processes ---- */

/* Reaps orphans until the main process ends. Returns the largest resident set of it and of the
 * children it waited for, in bytes. */
uint64_t reap_main(pid_t main_pid, struct slot_msg *ret);
/* Every process of the slot but the caller, and its init, is gone when this returns. Those that are
 * left must be the caller's descendants, who come to it when their parents die. */
void reap_rest(void);

/* ---- warm.c: an interpreter that waits in the slot ---- */

enum { WARM_PROGRAM, WARM_MODULE, WARM_KNOWN, WARM_SHARED, WARM_FDS };

struct warm {
    pid_t pid; /* 0: none */
    int sock;
    int fd[WARM_FDS]; /* the files it is started from and the slot's shared page */
};

/* What goes over the socket: the interpreter says that it waits, and how each job ended. */
struct warm_msg {
    int32_t exit_code;
    int32_t signal;
    uint64_t end_ns;
    uint64_t resident;
};

/* Takes the plan's descriptors out of the way of what is given low numbers, then to numbers from
 * `first`; none where there is to be no interpreter. */
int warm_lift(struct warm *warm, const struct slot_plan *plan, int above);
int warm_place(struct warm *warm, int first);
/* Closes the descriptors kept, whatever happens. */
int warm_start(struct warm *warm, const struct slot_plan *plan, int slot_sock);
/* Has it fork a prepared process, and waits until that and all it started are gone. */
int warm_run(struct warm *warm, struct slot_msg *end, uint64_t *ret_resident);

/* ---- reset.c: make a slot as it was, and prove it ---- */

enum { PLACE_WORK, PLACE_TMP, PLACE_SHM, PLACES };

struct times {
    struct timespec changed, modified, accessed;
};

struct pristine {
    int place[PLACES]; /* directories of the job's tmpfs */
    int next_id[IPC_KINDS];
    int sockstat;    /* of the slot's network namespace */
    int64_t sockets; /* that there were at the start */
    struct times times[PLACES];
    struct timespec taken; /* CLOCK_REALTIME when this was noted */
    uint64_t used_blocks;
    uint64_t used_inodes;
};

int pristine_note(struct pristine *pristine, const struct root *root);
/* As many as there are now, with an interpreter's, may be there after a job. */
void pristine_note_sockets(struct pristine *pristine);
int slot_reset(struct pristine *pristine, struct fault *fault);
/* Bytes of files in the job's tmpfs. */
uint64_t pristine_used(const struct pristine *pristine);

/* ---- job.c, stage.c, collect.c, locks.c: the prepared process ---- */

/* What is left to do when everything is prepared but the exec. */
struct job_start {
    const struct sbx_job *job;
    char **argv, **env;
};

/* Waits for a job and does all up to the exec; what cannot be done ends the process. Collecting
 * files is all done here, too. `warm` goes into SLOT_READY. */
void job_prepare(int sock, struct slot_shared *shared, bool warm, struct job_start *ret);
void job_mark_start(struct slot_shared *shared);
_Noreturn void job_execute(const struct job_start *start, struct slot_shared *shared);
_Noreturn void job_main(int sock, struct slot_shared *shared);
/* Unmaps what the last prepared process mapped; called by init when it is gone. */
void job_release(void);

/* From now on no file can be locked by this process, nor by any that comes of it. */
int forbid_locks(void);

/* From now on this process, and what comes of it, runs on that processor alone. */
int keep_to_cpu(unsigned number);

/* Where the blob's parts begin; all pointers into the blob. */
struct job_spec {
    uint32_t argc, envc, nfiles, stdin_len;
    const char *strings; /* argv, then env */
    const char *cwd;
    const char *files;
    const char *stdin_data;
};

/* Returns 0, or -1 where the blob does not hold what it says (nothing outside it is read). */
int blob_parse(const char *blob, size_t len, struct job_spec *ret);
int stage_files(int work, const struct job_spec *spec);
int collect_files(int work, int out, const char *const *patterns, uint64_t limit);
bool glob_match(const char *pattern, const char *path);

/* ---- cgroup.c: two back ends behind one interface ---- */

struct cgroup {
    unsigned version;
    int dir[CG_KINDS];
    int procs[CG_KINDS];
    int memory_limit, memory_swap_limit, memory_peak, memory_usage, memory_stat, memory_reclaim;
    int oom; /* v1: eventfd; v2: memory.events, both in the worker's epoll */
    int pids_limit, pids_events;
    int cpu;
    uint64_t batches; /* of memory that all CPUs together may have charged to it in advance */
    /* what the files hold now, so that equal limits cost no system call */
    uint64_t set_memory;
    uint32_t set_processes;
};

void cgroup_init(struct cgroup *cgroup);
int cgroup_make(struct cgroup *cgroup, const struct config *config, unsigned index, unsigned cpus);
void cgroup_close(struct cgroup *cgroup);
/* Takes some 0.1 ms for each hierarchy, and at times some milliseconds. */
void cgroup_remove(const struct config *config, unsigned index);
/* Writes what differs from what the files hold; a write can take milliseconds. */
int cgroup_set_limits(struct cgroup *cgroup, uint64_t memory, uint32_t processes);
/* Whether the kernel's out-of-memory event has come; v1: since the last call. */
bool cgroup_oom(struct cgroup *cgroup);
/* Whether this process, by its number on the host, is the slot's. */
bool cgroup_has(const struct cgroup *cgroup, pid_t pid);
bool cgroup_recycles(const struct config *config);

/* Counters; init has them too, and nothing else of the cgroup. */
int cgroup_keep_counters(struct cgroup *cgroup, int first_fd);
/* The peak starts here: the slot is clean and nothing of a job has run. Drops page cache that was
 * there before and takes more than half of next_memory, the limit of a held slot's next job. */
int cgroup_begin(const struct cgroup *cgroup, struct base *base, uint64_t next_memory);
uint64_t cgroup_cpu_ns(const struct cgroup *cgroup);
/* What is in use, without the page cache, which the kernel takes back when a job needs memory. */
uint64_t cgroup_memory(const struct cgroup *cgroup);
/* What is charged to a slot after its reset that was not when it was new: it would be the next
 * job's, or hide as much of what that uses. */
enum leftover {
    LEFT_NOTHING, /* but for what a counter can be wrong by */
    LEFT_FILES,   /* page cache of what the job read first of all, or what it wrote to a descriptor
                     of sandboxd's, who has not closed it yet */
    LEFT_FREED_LATE, /* what the kernel frees some milliseconds later */
};
enum leftover cgroup_leftover(const struct cgroup *cgroup, const struct base *base);
/* What the group used since base, under a limit of so many bytes. */
void cgroup_usage(const struct cgroup *cgroup, const struct base *base, uint64_t memory_limit,
                  struct usage *ret);

/* ---- output.c: what a job printed ---- */

struct output {
    int fd;          /* a memfd of both regions; SBX_RESULT_MEMFD says how */
    uint64_t stride; /* bytes of a region: output_max, in whole pages */
    char *data[2];   /* stdout, stderr: touched as far as used */
    uint64_t len[2];
    uint64_t cap;
    bool nowait; /* pipes of this kernel know RWF_NOWAIT */
    bool truncated[2];
    bool ordered;
    int error; /* why something of it could not be read */
    uint32_t *segment;
    uint32_t segments;
};

int output_init(struct output *output, uint64_t output_max);
void output_begin(struct output *output, uint64_t cap, bool ordered);
/* Reads what is there, but no more than about `most`. Returns false once more came than the cap
 * allows, or it failed. */
bool output_read(struct output *output, unsigned stream, int fd, uint64_t most);
/* The memfd with what came, which is the caller's now; the output is empty. -1 with errno, and all
 * is as it was, where no other can be had. */
int output_give_away(struct output *output);
void output_end(struct output *output);
void output_free(struct output *output);

/* ---- worker.c ---- */

/* keeper is a pidfd: when that is dead the worker takes its part, and ends. */
int worker_run(const struct config *config, int sock, int keeper);

#endif
