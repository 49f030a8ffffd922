/* SPDX-License-Identifier: Apache-2.0
 *
 * @NAME@ on a microcontroller: the model lies in flash, one static arena holds all activations, nothing is allocated. */
#include <stdalign.h>
#include <string.h>

#include "edge8.h"
#include "model_data.h"
#include "start.h"

/* Enough for this model on this CPU; e8_model_arena_least tells the exact number, printed below. */
static alignas(64) uint8_t arena[@ARENA_BYTES@];

static int fail(const char *what, e8_status status)
{
    print_text(what);
    print_text(": ");
    print_text(e8_status_text(status));
    print_text("\n");
    return 1;
}

int main(void)
{
    e8_model model;
    e8_session session;
    e8_status status = e8_model_open(&model, model_data, model_bytes, NULL, NULL);
    if (status != E8_OK) return fail("model", status);
    status = e8_session_init(&session, &model, arena, sizeof arena, 1);
    if (status != E8_OK) return fail("session", status);

    memcpy(e8_session_data(&session, E8_INPUT, 0), input_data, input_bytes);
    status = e8_session_run(&session);
    if (status != E8_OK) return fail("run", status);

    e8_tensor output;
    (void)e8_model_io(&model, E8_OUTPUT, 0, &output);
    const void *scores = e8_session_data(&session, E8_OUTPUT, 0);
    print_text("arena ");
    print_number((uint32_t)e8_model_arena_least(&model, 1), 10, 0);
    print_text(" bytes, stack ");
    print_number(stack_used(), 10, 0);
    print_text(" bytes, output ");
    print_text(memcmp(scores, expected_data, expected_bytes) == 0 && output.bytes == expected_bytes ? "as on the host\n" : "DIFFERS\n");
    return memcmp(scores, expected_data, expected_bytes) != 0;
}
