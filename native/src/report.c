/* The text of the set-up steps, for sandboxd (through cffi) and for the helper's own messages. */
#include "sandbox.h"

static const char *const step_names[] = {
#define STEP_NAME(name, text, hint) text,
    SBX_STEPS(STEP_NAME)
#undef STEP_NAME
};

static const char *const step_hints[] = {
#define STEP_HINT(name, text, hint) (hint),
    SBX_STEPS(STEP_HINT)
#undef STEP_HINT
};

_Static_assert(sizeof step_names / sizeof *step_names == SBX_STEP_COUNT, "a text for each step");

const char *sbx_step_name(unsigned step) {
    return step < SBX_STEP_COUNT ? step_names[step] : "an unknown step";
}

const char *sbx_step_hint(unsigned step) { return step < SBX_STEP_COUNT ? step_hints[step] : ""; }
