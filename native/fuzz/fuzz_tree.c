/*
 * Whatever a job left in its directories: what is collected is the job's own, and bounded; a reset
 * that succeeds leaves nothing of it. Nothing outside is touched or read either way.
 *
 * The directories are those of a slot: on a tmpfs of its own, in a mount namespace of this program.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "internal.h"

enum {
    MOST_ACTS = 24,
    COLLECT_BYTES = 1 << 16,
};

#define SECRET "of the host, not the job's"

static const char *const places[PLACES] = {"work", "tmp", "shm"};
/* Few, so that they meet; and those that have broken others. */
static const char *const words[] = {
    "a",
    "b",
    "c",
    "*",
    "-rf",
    "\n",
    "...",
    ".a",
    "\xff",
    "a b",
    "\\",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
    "nnnnnn"
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
    "nnnnnn"
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
};
static const char *const targets[] = {
    "a", "..", ".", "/", "../../outside/secret", "../../outside", "/proc/self/root", "", "b/c",
};
static const char *const patterns[][3] = {
    {"**"}, {"*"}, {"a/**", "b"}, {"**/a"}, {"[a-c]*", "*/*"}};

static char base[PATH_MAX / 2];
static struct root root = {.last_pid = -1, .tmpfs = -1, .null = -1};
static struct pristine pristine;
static int outside = -1;

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- the slot ---- */

static void make_secret(void) {
    FUZZ_CHECK(mkdirat(root.tmpfs, "outside", 0755) == 0);
    outside = openat(root.tmpfs, "outside", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    autoclose int file = openat(outside, "secret", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    FUZZ_CHECK(file >= 0 && write(file, SECRET, sizeof SECRET) == sizeof SECRET);
}

static void make_slot(void) {
    static const mode_t modes[PLACES] = {0755, 01777, 01777};
    FUZZ_CHECK(mount("fuzz", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=200") == 0);
    root.tmpfs = open(base, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    FUZZ_CHECK(root.tmpfs >= 0);
    make_secret();
    for (int i = 0; i < PLACES; i++) {
        FUZZ_CHECK(mkdirat(root.tmpfs, places[i], 0) == 0 &&
                   fchmodat(root.tmpfs, places[i], modes[i], 0) == 0);
        root.next_id[i] = memfd_create("next_id", MFD_CLOEXEC);
    }
    FUZZ_CHECK(fchownat(root.tmpfs, "work", JOB_UID, JOB_UID, 0) == 0);
    FUZZ_CHECK(pristine_note(&pristine, &root) == 0);
    close_fd(&pristine.sockstat); /* the host's, where others have sockets */
    pristine.sockstat = memfd_create("sockstat", MFD_CLOEXEC);
    FUZZ_CHECK(write(pristine.sockstat, "sockets: used 0\n", 16) == 16);
    pristine.sockets = 0;
}

static void drop_slot(void) {
    for (int i = 0; i < PLACES; i++) {
        close_fd(&pristine.place[i]);
        close_fd(&root.next_id[i]);
    }
    close_fd(&pristine.sockstat);
    close_fd(&outside);
    close_fd(&root.tmpfs);
    FUZZ_CHECK(umount2(base, MNT_DETACH) == 0);
}

static void leave(void) {
    drop_slot();
    (void)rmdir(base);
}

static void begin(void) {
    fuzz_make_directory(base, sizeof base);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        fprintf(stderr, "this target needs root, for a mount namespace: %s\n", strerror(errno));
        exit(1);
    }
    make_slot();
    FUZZ_CHECK(atexit(leave) == 0);
}

/* ---- what a job does ---- */

/* An entry of a directory: as good as anywhere a job can get to, and nothing outside. */
struct place {
    int dir;
    const char *name;
};

static const char *take_word(struct input *input) { return words[take_byte(input) % COUNT(words)]; }

/* Some directories down, where these are there. */
static struct place take_place(struct input *input) {
    const struct open_how how = {.flags = O_DIRECTORY | O_RDONLY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    uint8_t byte = take_byte(input);
    int dir = fcntl(pristine.place[byte % PLACES], F_DUPFD_CLOEXEC, 0);
    for (unsigned depth = byte / PLACES % 4; depth; depth--) {
        int child = sys_openat2(dir, take_word(input), &how);
        if (child < 0)
            break;
        (void)close(dir);
        dir = child;
    }
    return (struct place){dir, take_word(input)};
}

static void make_file(struct input *input, struct place at) {
    const int flags = O_CREAT | O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    autoclose int fd = openat(at.dir, at.name, flags, 0600);
    char data[256];
    size_t len = take_byte(input);
    memset(data, 'x', sizeof data);
    if (fd < 0)
        return;
    (void)!write(fd, data, len);
    if (len & 1)
        (void)!ftruncate(fd, (off_t)(take_number(input) % (1ull << 40)));
}

static void make_deep(struct input *input, struct place at) {
    int dir = at.dir;
    for (unsigned depth = take_byte(input) % 64; depth && dir >= 0; depth--) {
        (void)mkdirat(dir, at.name, 0700);
        int child = openat(dir, at.name, O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (dir != at.dir)
            (void)close(dir);
        dir = child;
    }
    if (dir != at.dir)
        close_fd(&dir);
}

static void make_socket(struct place at) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    autoclose int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int len =
        snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", at.dir, at.name);
    if (sock >= 0 && len < (int)sizeof address.sun_path)
        (void)bind(sock, (const struct sockaddr *)&address, sizeof address);
}

static void set_attributes(struct input *input, int fd) {
    uint8_t what = take_byte(input);
    int flags = what & 0x40 ? FS_NODUMP_FL : FS_IMMUTABLE_FL;
    if (fd < 0)
        return;
    if (what & 1)
        (void)fchmod(fd, (mode_t)take_number(input) & 07777);
    if (what & 2)
        (void)fsetxattr(fd, "user.a", "b", 1, 0);
    if (what & 4)
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    if (what & 8)
        (void)futimens(fd, (const struct timespec[]){{1, 0}, {1, 0}});
    if (what & 16)
        (void)fchown(fd, JOB_UID, JOB_UID);
}

static void change(struct input *input, struct place at) {
    autoclose int fd = openat(at.dir, at.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    set_attributes(input, take_byte(input) % 4 ? fd : at.dir);
}

static void move(struct input *input, struct place at, bool link) {
    struct place other = take_place(input);
    if (link)
        (void)linkat(other.dir, other.name, at.dir, at.name, 0);
    else
        (void)renameat(other.dir, other.name, at.dir, at.name);
    (void)close(other.dir);
}

static void act(struct input *input) {
    uint8_t what = take_byte(input);
    struct place at = take_place(input);
    FUZZ_CHECK(at.dir >= 0);
    switch (what % 9) {
    case 0:
        (void)mkdirat(at.dir, at.name, 0700);
        break;
    case 1:
        make_file(input, at);
        break;
    case 2:
        (void)symlinkat(targets[take_byte(input) % COUNT(targets)], at.dir, at.name);
        break;
    case 3:
    case 4:
        move(input, at, what % 9 == 3);
        break;
    case 5:
        (void)mkfifoat(at.dir, at.name, 0600);
        break;
    case 6:
        make_socket(at);
        break;
    case 7:
        change(input, at);
        break;
    default:
        make_deep(input, at);
    }
    (void)close(at.dir);
}

/* ---- what must hold ---- */

static void check_collected(const char *at, size_t left, bool whole) {
    struct sbx_collected entry;
    uint64_t sum = 0;
    FUZZ_CHECK(!memmem(at, left, SECRET, sizeof SECRET));
    for (;;) {
        FUZZ_CHECK(left >= sizeof entry || !whole);
        if (left < sizeof entry)
            return;
        memcpy(&entry, at, sizeof entry);
        at += sizeof entry;
        left -= sizeof entry;
        if (!entry.path_len)
            break;
        FUZZ_CHECK(entry.path_len <= left && entry.data_len <= left - entry.path_len);
        FUZZ_CHECK(*at != '/' && !(entry.mode & ~0777u));
        sum += sizeof entry + entry.path_len + entry.data_len;
        at += entry.path_len + entry.data_len;
        left -= entry.path_len + entry.data_len;
    }
    FUZZ_CHECK(!left && sum <= COLLECT_BYTES);
}

static void collect(struct input *input) {
    autoclose int out = memfd_create("out", MFD_CLOEXEC);
    autoclose int work =
        openat(pristine.place[PLACE_WORK], ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    struct stat st;
    FUZZ_CHECK(out >= 0 && work >= 0);
    bool whole =
        collect_files(work, out, patterns[take_byte(input) % COUNT(patterns)], COLLECT_BYTES) == 0;
    FUZZ_CHECK(fstat(out, &st) == 0);
    if (!st.st_size)
        return;
    char *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, out, 0);
    FUZZ_CHECK(data != MAP_FAILED);
    check_collected(data, (size_t)st.st_size, whole);
    FUZZ_CHECK(munmap(data, (size_t)st.st_size) == 0);
}

static void check_outside(void) {
    char data[sizeof SECRET + 1];
    struct stat st;
    autoclose int file = openat(outside, "secret", O_RDONLY | O_CLOEXEC);
    FUZZ_CHECK(file >= 0 && fstat(file, &st) == 0 && st.st_nlink == 1 && st.st_mode == 0100644);
    FUZZ_CHECK(read(file, data, sizeof data) == sizeof SECRET &&
               !memcmp(data, SECRET, sizeof SECRET));
    FUZZ_CHECK(fstat(outside, &st) == 0 && st.st_nlink == 2 && st.st_mode == 040755);
}

static void check_clean(void) {
    struct statfs fs;
    struct stat st;
    for (int i = 0; i < PLACES; i++) {
        int copy = fcntl(pristine.place[i], F_DUPFD_CLOEXEC, 0);
        DIR *dir = fdopendir(copy);
        FUZZ_CHECK(dir);
        rewinddir(dir);
        for (const struct dirent *entry; (entry = readdir(dir));)
            FUZZ_CHECK(!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."));
        (void)closedir(dir);
        FUZZ_CHECK(fstat(pristine.place[i], &st) == 0 &&
                   flistxattr(pristine.place[i], NULL, 0) == 0);
        FUZZ_CHECK((st.st_mode & 07777) == (i == PLACE_WORK ? 0755 : 01777));
        FUZZ_CHECK(st.st_uid == (i == PLACE_WORK ? JOB_UID : INIT_UID));
    }
    FUZZ_CHECK(fstatfs(root.tmpfs, &fs) == 0 && fs.f_files - fs.f_ffree == pristine.used_inodes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    struct fault fault = {0, 0};
    if (root.tmpfs < 0)
        begin();
    unsigned before = fuzz_count_fds();
    uint8_t choice = take_byte(&input);
    for (unsigned i = 0; i < MOST_ACTS && input.left; i++)
        act(&input);
    if (choice & 1)
        collect(&input);
    if (slot_reset(&pristine, &fault) == 0) {
        check_clean();
        check_outside();
        FUZZ_CHECK(fuzz_count_fds() == before);
        return 0;
    }
    FUZZ_CHECK(fault.step == SBX_STEP_RESET);
    check_outside();
    FUZZ_CHECK(fuzz_count_fds() == before);
    drop_slot();
    make_slot();
    return 0;
}
