#include <string.h>

#include "sandbox.h"
#include "test.h"

static void every_step_has_a_text(void) {
    for (unsigned step = 0; step < SBX_STEP_COUNT; step++) {
        CHECK(sbx_step_name(step)[0] != '\0');
        CHECK(sbx_step_hint(step) != NULL);
    }
}

static void the_text_is_that_of_the_step(void) {
    CHECK(!strcmp(sbx_step_name(SBX_STEP_NONE), "nothing"));
    CHECK(!strcmp(sbx_step_name(SBX_STEP_UID_MAP), "writing uid_map and gid_map"));
    CHECK(strstr(sbx_step_hint(SBX_STEP_CGROUP), "Delegate=yes") != NULL);
    CHECK(!strcmp(sbx_step_name(SBX_STEP_INTERPRETER), "starting an interpreter that waits"));
}

static void numbers_that_are_no_step_have_a_text_too(void) {
    CHECK(!strcmp(sbx_step_name(SBX_STEP_COUNT), "an unknown step"));
    CHECK(!strcmp(sbx_step_name(~0u), "an unknown step"));
    CHECK(!strcmp(sbx_step_hint(~0u), ""));
}

TEST_MAIN(TEST(every_step_has_a_text), TEST(the_text_is_that_of_the_step),
          TEST(numbers_that_are_no_step_have_a_text_too))
