/* What stands around the prepared process when it is fuzzed. */
#ifndef JOB_WORLD_H
#define JOB_WORLD_H

#include "internal.h"

/* Makes an empty work directory. Returns the number of descriptors that are open then. */
unsigned world_begin(void);
void world_stage(const struct job_spec *spec);
/* Whether the prepared process came as far as its exec. */
bool world_run(int sock, struct job_start *ret);
/* Closes what it left open, as its end would, and removes what it made; nothing may be outside. */
void world_end(unsigned before);

#endif
