#include "internal.h"

int fail(struct fault *fault, enum sbx_step step) {
    fault->step = step;
    fault->error = errno;
    return -1;
}
