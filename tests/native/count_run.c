/* SPDX-License-Identifier: Apache-2.0
 *
 * usage: count_run MODEL.e8
 * Opens a model and runs it once, one thread, on a fixed input: what callgrind counts instructions of. */
#include <stdio.h>
#include <stdlib.h>

#include "edge8.h"

static void *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) return NULL;
    *size = (size_t)ftell(file);
    void *data = aligned_alloc(64, (*size + 63) / 64 * 64);
    rewind(file);
    if (!data || fread(data, 1, *size, file) != *size) return NULL;
    fclose(file);
    return data;
}

/* Pixels less their middle, in float; any codes; indices 0. */
static void fill(e8_session *session, const e8_model *model)
{
    uint32_t state = 1;
    for (uint32_t i = 0; i < e8_model_count(model, E8_INPUT); i++) {
        e8_tensor t;
        (void)e8_model_io(model, E8_INPUT, i, &t);
        uint8_t *p = e8_session_data(session, E8_INPUT, i);
        size_t width = t.type == E8_FLOAT32 ? 4 : 1;
        for (size_t k = 0; k < t.bytes; k++) p[k] = 0;
        for (size_t k = 0; k < t.bytes / width; k++) {
            state = state * 1664525u + 1013904223u;
            int code = (int)(state >> 24) - 128;
            if (t.type == E8_FLOAT32) ((float *)(void *)p)[k] = (float)code / 64.0f;
            if (t.type == E8_INT8 || t.type == E8_UINT8) p[k] = (uint8_t)code;
        }
    }
}

int main(int argc, char **argv)
{
    size_t size = 0;
    void *file = argc == 2 ? read_file(argv[1], &size) : NULL;
    e8_model model;
    e8_session session;
    if (!file || e8_model_open(&model, file, size, NULL, NULL) != E8_OK) return 2;
    size_t bytes = e8_model_arena(&model, 1);
    void *arena = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!arena || e8_session_init(&session, &model, arena, bytes, 1) != E8_OK) return 3;
    fill(&session, &model);
    if (e8_session_run(&session) != E8_OK) return 4;
    printf("%s\n", e8_cpu_level());
    return 0;
}
