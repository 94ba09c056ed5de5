/*
 * The one header: what sandboxd and sandbox-helper say to each other.
 *
 * Theory of operation. sandboxd (no privilege) and sandbox-helper (all of it) share one
 * SOCK_SEQPACKET socket. Every message is one of the fixed structs below, followed, where the
 * struct says so, by bytes the helper never looks into, and by file descriptors (SCM_RIGHTS).
 * All integers are in host byte order; both ends run on one machine and are built together
 * (SBX_ABI is compared at start). The structs have no implicit padding.
 *
 * What a client wrote (argv, environment, file names, patterns) travels in a *blob*. The helper
 * passes it on unread; only the job's own process, which has no privilege left, parses it.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stdint.h>

enum {
    SBX_ABI = 8,
    /* Largest blob that rides in the message itself; a larger one comes as a memfd. */
    SBX_INLINE_BLOB = 65536,
    /* Largest output (stdout + stderr + segments) in the result message; else a memfd. */
    SBX_INLINE_OUTPUT = 65536,
    /* Order of arrival is recorded for this many changes between stdout and stderr. */
    SBX_MAX_SEGMENTS = 4096,
    SBX_MAX_MOUNTS = 32, /* extra read-only directories; one bit each in sbx_job.mounts */
    SBX_MAX_ROOTS = 256, /* root file systems besides the host's */
    SBX_MAX_SLOTS = 1024,
    SBX_SLOT_UIDS = 3, /* host ids of a slot */
};

enum sbx_type {
    /* sandboxd to helper */
    SBX_MSG_JOB = 1,     /* struct sbx_job + blob; descriptors as in fd_mask */
    SBX_MSG_KILL = 2,    /* struct sbx_control: value = enum sbx_reason */
    SBX_MSG_SIGNAL = 3,  /* struct sbx_control: value = signal number, to the main process */
    SBX_MSG_RELEASE = 4, /* struct sbx_control: give up the slot held by job_id */
    SBX_MSG_STATS = 5,   /* struct sbx_control; answered by struct sbx_stats */
    SBX_MSG_ROOT = 6,    /* struct sbx_control + its directory: job_id is the root's from now on */
    SBX_MSG_UNROOT = 7,  /* struct sbx_control: no job will ask for root job_id again */
    /* helper to sandboxd */
    SBX_MSG_HELLO = 64,  /* struct sbx_hello: the helper serves */
    SBX_MSG_RESULT = 65, /* struct sbx_result + stdout + stderr + segments (or one memfd) */
    SBX_MSG_STATS_IS = 66,
    SBX_MSG_SLOT_ERROR = 67, /* struct sbx_slot_error: a slot could not be made */
    SBX_MSG_GONE = 68, /* struct sbx_control: what was left of this SBX_RESULT_LOST has gone */
};

/* Why a job ended: what the helper did or saw, never guessed from the exit code. */
enum sbx_reason {
    SBX_REASON_EXITED = 1,
    SBX_REASON_SIGNALED = 2,
    SBX_REASON_CPU_TIME = 3,
    SBX_REASON_WALL_TIME = 4,
    SBX_REASON_MEMORY = 5,
    SBX_REASON_OUTPUT = 6,
    SBX_REASON_CANCELLED = 7,
    SBX_REASON_SETUP = 8,  /* step and error say what failed; the program never ran */
    SBX_REASON_HELPER = 9, /* the slot died for no reason the job can have */
};

enum sbx_mode { SBX_MODE_RECYCLED = 0, SBX_MODE_FRESH = 1 };

enum sbx_job_flag {
    SBX_JOB_LOOPBACK = 1 << 0,   /* bring lo up in the job's network namespace */
    SBX_JOB_TTY = 1 << 1,        /* descriptor 0 is a terminal: make it the controlling one */
    SBX_JOB_ORDER = 1 << 2,      /* record the order of arrival of stdout and stderr */
    SBX_JOB_HOLD = 1 << 3,       /* keep slot and work directory for a job with after = job_id */
    SBX_JOB_COLLECT = 1 << 4,    /* no program: copy files that match the blob's patterns to the
                                    descriptor passed as stdout (see job.c, collected stream) */
    SBX_JOB_WARM = 1 << 5,       /* argv begins with the prepared interpreter's name: it may run the
                                    program without an exec (see warm.c) */
    SBX_JOB_NEXT_GUEST = 1 << 6, /* with HOLD: the job that continues in the slot runs as the slot's
                                    second user, who can change nothing of this one's */
    SBX_JOB_NO_LOCKS = 1 << 7,   /* locking files fails with ENOLCK (see locks.c) */
    SBX_JOB_PASSED = 1 << 8,     /* of a job to which a client passed descriptors, each program */
};

/* Bits of fd_mask; passed descriptors come in this order. sandboxd keeps its own copy of each that
 * a client has, too, until the job's result has come. */
enum sbx_fd {
    SBX_FD_BLOB = 1 << 0,
    SBX_FD_STDIN = 1 << 1,
    SBX_FD_STDOUT = 1 << 2,
    SBX_FD_STDERR = 1 << 3,
    SBX_FD_RESULT = 1 << 4, /* becomes the program's descriptor 3 */
};

/* Steps of set-up: sbx_step_name() and sbx_step_hint() (report.c) turn them into text. */
#define SBX_STEPS(X)                                                                               \
    X(NONE, "nothing", "")                                                                         \
    X(CGROUP, "making or entering the job's cgroup",                                               \
      "the daemon's own cgroup must be writable (systemd: Delegate=yes); run 'sandboxctl check'")  \
    X(CLONE, "creating namespaces",                                                                \
      "check /proc/sys/user/max_*_namespaces and kernel.apparmor_restrict_unprivileged_userns")    \
    X(UID_MAP, "writing uid_map and gid_map", "the helper needs CAP_SETUID and CAP_SETGID")        \
    X(ROOT, "building the root file system", "Linux 5.12 or newer is needed (mount_setattr)")      \
    X(MOUNT, "mounting a read-only directory", "it must exist; see 'readonly' in sandboxd.toml")   \
    X(PROC, "mounting /proc",                                                                      \
      "a fully visible /proc is needed on the host; in a container run it without masked paths")   \
    X(DEV, "building /dev", "")                                                                    \
    X(TMPFS, "mounting the job's tmpfs", "")                                                       \
    X(PIVOT, "changing the root", "")                                                              \
    X(NETWORK, "preparing the network namespace", "")                                              \
    X(CREDENTIALS, "changing user and group", "")                                                  \
    X(RLIMIT, "setting resource limits", "the daemon's own hard limit is lower")                   \
    X(SECCOMP, "installing the seccomp filter", "the kernel needs CONFIG_SECCOMP_FILTER")          \
    X(FORK, "starting the job's process", "")                                                      \
    X(PIPE, "making the output pipes", "")                                                         \
    X(BLOB, "reading the job's description", "")                                                   \
    X(FILE, "writing an input file", "the file limit, disk limit or memory limit may be too low")  \
    X(STDIN, "preparing stdin", "")                                                                \
    X(CWD, "changing to the working directory", "it must exist in the sandbox")                    \
    X(TTY, "taking the terminal", "")                                                              \
    X(EXEC, "executing the program", "")                                                           \
    X(COLLECT, "collecting output files", "")                                                      \
    X(RESET, "resetting a recycled slot", "")                                                      \
    X(LIMITS, "setting the job's cgroup limits", "")                                               \
    X(CORE, "keeping a sandbox's processor cores to itself",                                       \
      "core_scheduling needs a kernel with CONFIG_SCHED_CORE; without it leave core_scheduling "   \
      "out")                                                                                       \
    X(CPU, "keeping to a processor",                                                               \
      "it may have been switched off since sandboxd started; dedicated_cpus needs it")             \
    X(DESCRIPTORS, "passing descriptors",                                                          \
      "programs that wait for what clients passed, and cannot be ended, keep too many sandboxes "  \
      "already; see 'lost' in sandboxctl status")                                                  \
    X(OUTPUT, "keeping what the program printed",                                                  \
      "a lack of memory or descriptors, or a small limit for files (ulimit -f), can be why")       \
    X(INTERPRETER, "starting an interpreter that waits",                                           \
      "only warm slots need it (warm_slots in sandboxd.toml); programs are started without it")

enum sbx_step {
#define SBX_STEP_ENUM(name, text, hint) SBX_STEP_##name,
    SBX_STEPS(SBX_STEP_ENUM)
#undef SBX_STEP_ENUM
        SBX_STEP_COUNT
};

/* All limits are set: the daemon has filled in the configured ones. */
struct sbx_limits {
    uint64_t cpu_time_ns;
    uint64_t wall_time_ns;
    uint64_t memory_bytes;
    uint64_t output_bytes; /* for stdout and for stderr, each; ignored for passed descriptors */
    uint64_t file_size_bytes;
    uint64_t disk_bytes; /* work directory, /tmp and /dev/shm together */
    uint64_t stack_bytes;
    uint32_t disk_inodes;
    uint32_t processes;
    uint32_t open_files;
    uint32_t cpu; /* the worker's word: 0, or 1 + the one processor that the job may use */
};

struct sbx_job {
    uint32_t type;
    uint32_t flags;       /* enum sbx_job_flag */
    uint64_t job_id;      /* chosen by sandboxd, never 0, never used twice */
    uint64_t after;       /* 0, or the job_id whose held slot this job continues in */
    uint32_t tenant;      /* a recycled slot never passes from one tenant to another, */
    uint32_t partition;   /* nor within a tenant from one partition to another */
    uint32_t mode;        /* enum sbx_mode */
    uint32_t mounts;      /* bit n: extra directory n of the helper's configuration */
    uint32_t fd_mask;     /* enum sbx_fd */
    uint32_t blob_len;    /* bytes of blob after this struct; 0 when it comes as a memfd */
    uint32_t root;        /* 0: the host's directories; else of SBX_MSG_ROOT */
    uint32_t umask;       /* the program's file mode creation mask */
    uint64_t next_memory; /* with HOLD: memory_bytes of the job that continues; 0: not known */
    struct sbx_limits limits;
};

struct sbx_control {
    uint32_t type;
    uint32_t value;
    uint64_t job_id;
};

enum sbx_memory_source {
    SBX_MEMORY_NONE = 0,
    SBX_MEMORY_V2_PEAK = 1, /* memory.peak */
    SBX_MEMORY_V1_MAX = 2,  /* memory.max_usage_in_bytes */
};

enum sbx_result_flag {
    SBX_RESULT_STDOUT_TRUNCATED = 1 << 0,
    SBX_RESULT_STDERR_TRUNCATED = 1 << 1,
    SBX_RESULT_MEMFD = 1 << 2, /* the payload is in the descriptor that came with the message:
                                  stdout at 0, stderr at stride, segments at 2 * stride */
    SBX_RESULT_HELD = 1 << 3,  /* the slot is held; send a job with after, or RELEASE */
    SBX_RESULT_LOST = 1 << 4,  /* killed, but something of it waits in the kernel and does not die;
                                  SBX_MSG_GONE tells when it has. Its output is not known */
};

/* Payload: stdout_len bytes, stderr_len bytes, then segments: uint32_t each, the top bit set for
 * stderr, the rest a length, in order of arrival. */
struct sbx_result {
    uint32_t type;
    uint32_t reason; /* enum sbx_reason */
    uint64_t job_id;
    uint64_t cpu_time_ns;       /* of the whole tree, from exec */
    uint64_t wall_time_ns;      /* from exec to the end of the main process, or to the kill */
    uint64_t memory_bytes;      /* peak without the page cache that the job left */
    uint64_t memory_peak_bytes; /* as the counter says */
    uint64_t stdout_len;
    uint64_t stderr_len;
    uint64_t stride;   /* with SBX_RESULT_MEMFD */
    int32_t exit_code; /* when reason is EXITED */
    int32_t signal;    /* when reason is SIGNALED */
    uint32_t step;     /* enum sbx_step, when reason is SETUP, or is known with HELPER */
    int32_t error;     /* errno, with a step */
    uint32_t flags;    /* enum sbx_result_flag */
    uint32_t memory_source;
    uint32_t segments;
    uint32_t process_limit_hits; /* forks refused by the process limit */
};

struct sbx_hello {
    uint32_t type;
    uint32_t abi;
    uint32_t slots;
    uint32_t cgroup_version; /* 1 or 2 */
    uint32_t recycles;       /* 0: this kernel cannot reset memory.peak, every slot is fresh */
    uint32_t pid;
};

struct sbx_slot_error {
    uint32_t type;
    uint32_t step;
    int32_t error;
    uint32_t retry_ms; /* when the helper tries again */
};

struct sbx_stats {
    uint32_t type;
    uint32_t ready;
    uint32_t running;
    uint32_t preparing; /* being made or reset */
    uint32_t held;
    uint32_t waiting; /* jobs taken but not started yet */
    uint32_t warm;    /* slots in which an interpreter waits, or has waited for the job that runs */
    uint32_t lost;    /* killed, and not dead yet */
    uint64_t jobs;    /* ended since the helper started */
    uint64_t slots_made;
    uint64_t slots_recycled;
    uint64_t slots_retired;
};

/*
 * The blob: this struct, then argc + envc NUL-terminated strings, the cwd (NUL-terminated, empty
 * for the work directory), nfiles times {struct sbx_blob_file, path NUL-terminated, data}, then
 * stdin_len bytes for stdin. For SBX_JOB_COLLECT argv holds the patterns.
 */
struct sbx_blob {
    uint32_t argc;
    uint32_t envc;
    uint32_t nfiles;
    uint32_t stdin_len; /* at most 65536, a pipe's capacity; longer input comes as a descriptor */
};

struct sbx_blob_file {
    uint64_t data_len;
    uint32_t path_len; /* with the NUL */
    uint32_t mode;
};

/*
 * The collected stream, written by the collecting process and parsed by sandboxd: for each file
 * this struct, the path (no NUL) and the data; it ends with an entry of path_len 0, whose mode is
 * an errno or 0. A stream without that end was cut off by a limit.
 */
struct sbx_collected {
    uint64_t data_len;
    uint32_t path_len;
    uint32_t mode; /* permission bits; for the end entry an errno or 0 */
};

const char *sbx_step_name(unsigned step);
const char *sbx_step_hint(unsigned step);

/* The seccomp programs of the process that unpacks archives, arrays of struct sock_filter; see
 * policy/unpack_policy.c. */
enum sbx_filter {
    SBX_FILTER_BASE,
    SBX_FILTER_NO_PROCESS,
    SBX_FILTER_NO_PROGRAM,
};

const void *sbx_unpack_filter(enum sbx_filter which, uint32_t *ret_bytes);

#endif
