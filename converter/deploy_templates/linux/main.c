/* SPDX-License-Identifier: Apache-2.0
 *
 * The shortest useful program around edge8: run @MODEL@ once and print the largest outputs. */
#include <stdio.h>
#include <stdlib.h>

#include "edge8.h"
@INCLUDE@
@LOAD@
int main(int count, char **arguments)
{
    e8_model model;
    e8_session session;
    e8_diag diag;
    size_t size;
    const void *file = load_model(count > 1 ? arguments[1] : "@MODEL@", &size);
    if (!file || e8_model_open(&model, file, size, NULL, &diag) != E8_OK) return fprintf(stderr, "cannot open the model\n"), 1;

    size_t bytes = e8_model_arena(&model, 1);
    void *arena = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!arena || e8_session_init(&session, &model, arena, bytes, 1) != E8_OK) return fprintf(stderr, "no memory\n"), 1;

    /* Fill the input here: e8_session_data(&session, E8_INPUT, 0) points to its elements, zeros at first. */
    if (e8_session_run(&session) != E8_OK) return fprintf(stderr, "the run failed\n"), 1;

    e8_tensor output;
    e8_model_io(&model, E8_OUTPUT, 0, &output);
    if (output.type == E8_FLOAT32) {
        const float *scores = e8_session_data(&session, E8_OUTPUT, 0);
        for (size_t i = 0; i < output.bytes / sizeof(float) && i < 10; i++) printf("%s[%zu] = %g\n", output.name, i, (double)scores[i]);
    }
    free(arena);
    return 0;
}
