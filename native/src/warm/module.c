/*
 * Runs inside the waiting interpreter: a Python extension module with one function. warm.c says
 * what for.
 *
 * serve() does not return in the interpreter itself. It returns in each copy, as the job's user and
 * with the job's files, limits and streams, what the copy is to run. No client's byte is read
 * before that, and then by job.c alone.
 */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "../internal.h"

/* As warm.c has them. */
enum { CONTROL_FD = 3, SLOT_FD, SHARED_FD };

/* A larger stack than a process was started with may run into what is mapped below it. */
static const uint64_t MOST_STACK = 96 << 20;

static struct slot_shared *shared;

/* Init passes the worker's SIGTERM on; init.c says what it means. The caller is spared by kill. */
static void on_stop(int number) {
    (void)number;
    if (__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE) != shared->served)
        return;
    int error = errno;
    (void)kill(-1, SIGKILL);
    errno = error;
}

static int prepare(void) {
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    void *page = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, SHARED_FD, 0);
    if (page == MAP_FAILED)
        return -1;
    shared = page;
    /* What comes from outside the interpreter goes no further, and is not there after an exec. The
     * page's file least of all: who has it could make it shorter, and the worker die of that. */
    if (sys_close_range(SHARED_FD, ~0u, 0) < 0 ||
        sys_close_range(CONTROL_FD, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        return -1;
    return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0 ||
                   sigaction(SIGTERM, &action, NULL) < 0
               ? -1
               : 0;
}

static int tell(const struct warm_msg *msg) {
    struct iovec part = {(void *)msg, sizeof *msg};
    return message_send(CONTROL_FD, &part, 1, NULL) < 0 ? -1 : 0;
}

static int wait_for_go(void) {
    struct warm_msg msg;
    struct iovec part = {&msg, sizeof msg};
    struct fds fds;
    return message_receive(CONTROL_FD, &part, 1, &fds, NULL, 0) == sizeof msg ? 0 : -1;
}

/* The next process gets the same number again. */
static void watch(pid_t pid, uint64_t began_cpu) {
    struct slot_msg end = {0};
    __atomic_store_n(&shared->warm_cpu_ns, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - began_cpu,
                     __ATOMIC_RELEASE);
    uint64_t resident = reap_main(pid, &end);
    reap_rest();
    shared->warm_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - began_cpu;
    struct warm_msg msg = {end.exit_code, end.signal, end.end_ns, resident};
    if (tell(&msg) < 0)
        _exit(1);
}

static PyObject *list_of(char *const *strings) {
    PyObject *list = PyList_New(0);
    for (; list && *strings; strings++) {
        PyObject *item = PyBytes_FromString(*strings);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* Nothing of the slot's own is left to the program: not the page, no descriptor, no number. */
static void let_go_of_slot(const struct sbx_job *job) {
    unsigned first = job->fd_mask & SBX_FD_RESULT ? 4 : 3;
    (void)munmap(shared, sizeof *shared);
    shared = NULL;
    (void)sys_close_range(first, ~0u, 0);
    job_release();
    /* As after an exec. Its /proc/self would be root's otherwise. */
    (void)prctl(PR_SET_DUMPABLE, 1);
}

/* What the interpreter ignores would be ignored by any other program, too. */
_Noreturn static void start_anew(const struct job_start *start) {
    (void)signal(SIGPIPE, SIG_DFL);
    job_mark_start(shared);
    job_execute(start, shared);
}

/* In the copy. Returns what is to be run, or does not return. */
static PyObject *prepared_process(PyObject *rehearse, PyObject *become) {
    struct job_start start;
    (void)signal(SIGTERM, SIG_DFL);
    /* Init must see the end of the interpreter, though a copy of it is still there. */
    (void)dup3(0, CONTROL_FD, O_CLOEXEC);
    /* Most of what the program will use is copied now, while nobody waits. */
    Py_XDECREF(PyObject_CallObject(rehearse, NULL));
    PyErr_Clear();
    job_prepare(SLOT_FD, shared, true, &start);
    const struct sbx_job *job = start.job;
    if (!(job->flags & SBX_JOB_WARM) || job->flags & SBX_JOB_TTY ||
        job->limits.stack_bytes > MOST_STACK || strcmp(start.argv[0], "python3"))
        start_anew(&start);
    PyObject *argv = list_of(start.argv), *env = list_of(start.env);
    PyObject *program = argv && env ? PyObject_CallFunctionObjArgs(become, argv, env, NULL) : NULL;
    if (!program || program == Py_None)
        start_anew(&start);
    Py_DECREF(argv);
    Py_DECREF(env);
    job_mark_start(shared);
    let_go_of_slot(job);
    return program;
}

static PyObject *serve(PyObject *self, PyObject *arguments) {
    const struct warm_msg ready = {0};
    PyObject *rehearse, *become;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OO", &rehearse, &become))
        return NULL;
    if (prepare() < 0 || tell(&ready) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    while (wait_for_go() == 0) {
        uint64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        PyOS_BeforeFork();
        pid_t pid = fork();
        if (pid == 0) {
            PyOS_AfterFork_Child();
            return prepared_process(rehearse, become);
        }
        PyOS_AfterFork_Parent();
        if (pid < 0)
            break;
        watch(pid, cpu_ns);
    }
    _exit(1); /* init sees the end of the socket, and the slot ends */
}

static PyMethodDef methods[] = {{"serve", serve, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "sandbox_warm", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_sandbox_warm(void);
PyMODINIT_FUNC PyInit_sandbox_warm(void) { return PyModule_Create(&definition); }
