/* SPDX-License-Identifier: Apache-2.0
 *
 * The golden files on bare metal: each is opened and run, and its output compared with the expected bytes. Linked with the
 * start-up code of the bundles and with suite_data.c, which test_bare_metal.py writes. Exit code: the number of failures. */
#include <stdalign.h>
#include <string.h>

#include "edge8.h"
#include "start.h"
#include "suite_data.h"

static alignas(64) uint8_t arena[SUITE_ARENA];

static int run_case(const struct suite_case *c)
{
    e8_model model;
    e8_session session;
    e8_tensor output;
    if (e8_model_open(&model, c->model, c->model_bytes, NULL, NULL) != E8_OK) return 1;
    if (e8_session_init(&session, &model, arena, sizeof arena, 1) != E8_OK) return 2;
    memcpy(e8_session_data(&session, E8_INPUT, 0), suite_input, SUITE_INPUT_BYTES);
    if (e8_session_run(&session) != E8_OK) return 3;
    (void)e8_model_io(&model, E8_OUTPUT, 0, &output);
    if (output.bytes != c->expected_bytes) return 4;
    return memcmp(e8_session_data(&session, E8_OUTPUT, 0), c->expected, c->expected_bytes) != 0 ? 5 : 0;
}

int main(void)
{
    int failed = 0;
    for (size_t i = 0; i < SUITE_CASES; i++) {
        int result = run_case(&suite_cases[i]);
        if (result == 0) continue;
        failed++;
        print_text(suite_cases[i].name);
        print_text(result == 5 ? ": other bytes\n" : ": refused\n");
    }
    print_text("stack ");
    print_number(stack_used(), 10, 0);
    print_text(" bytes\n");
    return failed;
}
