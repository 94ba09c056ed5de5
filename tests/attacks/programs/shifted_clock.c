/* A17: a library to be preloaded into the daemon and its helper: CLOCK_REALTIME is an hour behind
 * for as long as the file that $SHIFTED_CLOCK names is there, and a day ahead while FILE.ahead is.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    char ahead[512];
    const char *file = getenv("SHIFTED_CLOCK");
    if (!file)
        return 0;
    snprintf(ahead, sizeof ahead, "%s.ahead", file);
    return access(file, F_OK) == 0 ? -3600 : access(ahead, F_OK) == 0 ? 86400 : 0;
}

int clock_gettime(clockid_t id, struct timespec *ret_now) {
    int result = (int)syscall(SYS_clock_gettime, id, ret_now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        ret_now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict ret_now, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    ret_now->tv_sec = now.tv_sec;
    ret_now->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *ret_now) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (ret_now)
        *ret_now = now.tv_sec;
    return now.tv_sec;
}
