/*
 * sandbox-helper: the command line, which only sandboxd's configuration gets into.
 *
 *   sandbox-helper serve key=value …   see struct config
 *   sandbox-helper check               what this kernel can do, a line for each feature
 */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

static int wrong(const char *argument, const char *why) {
    fprintf(stderr, "sandbox-helper: %s: %s\n", argument, why);
    return -1;
}

static int set_number(const char *text, uint64_t most, uint64_t *ret) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end || end == text || *text == '-' || value > most)
        return -1;
    *ret = value;
    return 0;
}

/* PATH or SOURCE:TARGET */
static int set_readonly(struct config *config, char *source) {
    char *colon = strrchr(source, ':');
    if (*source != '/' || config->readonly_count == MAX_READONLY)
        return -1;
    if (colon)
        *colon = '\0';
    config->readonly[config->readonly_count++] =
        (struct extra_mount){source, colon ? colon + 1 : source};
    return 0;
}

/* SOURCE:TARGET */
static int set_mount(struct config *config, char *source) {
    char *colon = strrchr(source, ':');
    if (*source != '/' || !colon || colon[1] != '/' || config->mount_count == SBX_MAX_MOUNTS)
        return -1;
    *colon = '\0';
    config->mounts[config->mount_count++] = (struct extra_mount){source, colon + 1};
    return 0;
}

static int set_cgroup(struct config *config, const char *key, const char *path) {
    static const char *const v1[CG_KINDS] = {"cg_memory", "cg_pids", "cg_cpuacct", "cg_cpu"};
    if (!strcmp(key, "cg2")) {
        config->cgroup_version = 2;
        config->cgroup[CG_MEMORY] = path;
        return 0;
    }
    for (int i = 0; i < CG_KINDS; i++)
        if (!strcmp(key, v1[i])) {
            config->cgroup_version = 1;
            config->cgroup[i] = path;
            return 0;
        }
    return -1;
}

static int add_variable(struct config *config, char *text) {
    size_t count = config->warm_env_count;
    char **grown = reallocarray(config->warm_env, count + 2, sizeof *grown);
    if (!grown)
        return -1;
    grown[count] = text;
    grown[count + 1] = NULL;
    config->warm_env = grown;
    config->warm_env_count++;
    return 0;
}

/* Files are opened here: no slot's root has them. */
static int set_warm(struct config *config, const char *key, char *value) {
    if (!strcmp(key, "interpreter")) {
        config->interpreter = value;
        return *value == '/' ? 0 : -1;
    }
    if (!strcmp(key, "warm_env"))
        return add_variable(config, value);
    int *file = !strcmp(key, "warm_program")  ? &config->warm_program
                : !strcmp(key, "warm_module") ? &config->warm_module
                : !strcmp(key, "warm_known")  ? &config->warm_known
                                              : NULL;
    return file && (*file = open(value, O_RDONLY | O_CLOEXEC)) >= 0 ? 0 : -1;
}

static int set_option(struct config *config, const char *key, char *value) {
    uint64_t number;
    if (!strcmp(key, "readonly"))
        return set_readonly(config, value);
    if (!strcmp(key, "mount"))
        return set_mount(config, value);
    if (!strncmp(key, "warm_", 5) || !strcmp(key, "interpreter"))
        return set_warm(config, key, value);
    if (!strncmp(key, "cg", 2))
        return set_cgroup(config, key, value);
    if (!strcmp(key, "output_max"))
        return set_number(value, UINT32_MAX / 2, &config->output_max);
    if (!strcmp(key, "disk_bytes"))
        return set_number(value, INT64_MAX, &config->disk_bytes);
    if (!strcmp(key, "memory_bytes"))
        return set_number(value, INT64_MAX, &config->memory_bytes);
    if (set_number(value, INT32_MAX, &number) < 0)
        return -1;
    if (!strcmp(key, "ctl"))
        config->ctl = (int)number;
    else if (!strcmp(key, "slots"))
        config->slots = (unsigned)number;
    else if (!strcmp(key, "spare"))
        config->spare = (unsigned)number;
    else if (!strcmp(key, "warm"))
        config->warm = (unsigned)number;
    else if (!strcmp(key, "uid_base"))
        config->uid_base = (uint32_t)number;
    else if (!strcmp(key, "core_scheduling"))
        config->core_scheduling = number;
    else if (!strcmp(key, "dedicated_cpus"))
        config->dedicated_cpus = number;
    else if (!strcmp(key, "processes"))
        config->processes = (uint32_t)number;
    else if (!strcmp(key, "disk_inodes"))
        config->disk_inodes = (uint32_t)number;
    else
        return -1;
    return 0;
}

static int check_config(const struct config *config) {
    if (config->ctl < 3)
        return wrong("ctl", "is missing");
    if (!config->slots ||
        config->slots + (uint64_t)config->spare + (uint64_t)config->warm > SBX_MAX_SLOTS)
        return wrong("slots", "must be 1 or more, and with spare and warm 1024 at most");
    if (config->warm && (!config->interpreter || config->warm_program < 0 ||
                         config->warm_module < 0 || config->warm_known < 0))
        return wrong("warm", "needs interpreter, warm_program, warm_module and warm_known");
    if (!config->uid_base)
        return wrong("uid_base", "is missing");
    for (int i = 0; i < (config->cgroup_version == 2 ? 1 : CG_CPU); i++)
        if (!config->cgroup[i])
            return wrong("cg_memory, cg_pids, cg_cpuacct or cg2", "is missing");
    return 0;
}

/* Whoever started sandboxd may have ignored or blocked signals, and jobs would inherit that. */
static void reset_signals(void) {
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL); /* SIGKILL and SIGSTOP cannot be set, and need not be */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int serve(int count, char **arguments) {
    struct config config = {.ctl = -1,
                            .output_max = 64 << 20,
                            .disk_bytes = 64 << 20,
                            .disk_inodes = 4096,
                            .memory_bytes = 512 << 20,
                            .processes = 64,
                            .warm_program = -1,
                            .warm_module = -1,
                            .warm_known = -1};
    for (int i = 0; i < count; i++) {
        char *equals = strchr(arguments[i], '=');
        if (!equals)
            return wrong(arguments[i], "key=value expected"), 2;
        *equals = '\0';
        if (set_option(&config, arguments[i], equals + 1) < 0)
            return wrong(arguments[i], "unknown key, or a value it cannot have"), 2;
    }
    reset_signals();
    return check_config(&config) < 0 ? 2 : keeper_run(&config);
}

int main(int argc, char **argv) {
    if (argc >= 2 && !strcmp(argv[1], "serve"))
        return serve(argc - 2, argv + 2);
    if (argc == 2 && !strcmp(argv[1], "check"))
        return sbx_check();
    fprintf(stderr, "usage: sandbox-helper serve KEY=VALUE… | check\n");
    return 2;
}
