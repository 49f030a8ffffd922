/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: any bytes are opened and, if they are accepted, run within small limits. Built with -DE8_FUZZ_WITHOUT_CRC so that
 * mutations reach the rules behind the checksum; the size field is set so that changes of length do too. `.ci/fuzz` builds and
 * runs it on the golden files. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "edge8.h"

enum { ALIGNMENT = 64, SIZE_FIELD = 16, ARENA_LIMIT = 1 << 20, MACS_LIMIT = 2000000 };

static void run(const e8_model *model)
{
    e8_session session;
    size_t bytes = e8_model_crc(model) & 1 ? e8_model_arena(model, 1) : e8_model_arena_least(model, 1);
    void *arena = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + ALIGNMENT);
    if (!arena) return;
    if (e8_session_init(&session, model, arena, bytes, 1) == E8_OK) {
        for (uint32_t i = 0; i < e8_model_count(model, E8_INPUT); i++) {
            e8_tensor tensor;
            uint8_t *data = e8_session_data(&session, E8_INPUT, i);
            if (e8_model_io(model, E8_INPUT, i, &tensor) != E8_OK) abort();
            for (size_t k = 0; k < tensor.bytes; k++) data[k] = (uint8_t)(k * 37 + i);
        }
        (void)e8_session_run(&session);
    }
    free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    e8_model model;
    e8_diag diag = {0, 0, NULL};
    e8_limits limits = {.macs = MACS_LIMIT, .arena = ARENA_LIMIT, .ops = 256, .tensors = 1024};
    uint64_t whole = size;
    /* Exactly `size` bytes after an aligned start, so that one byte too far is seen. */
    uint8_t *block = aligned_alloc(ALIGNMENT, (size + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
    if (!block) return 0;
    memcpy(block, data, size);
    if (size >= SIZE_FIELD + sizeof whole)
        for (unsigned i = 0; i < sizeof whole; i++) block[SIZE_FIELD + i] = (uint8_t)(whole >> (8 * i));
    if (e8_model_open(&model, block, size, &limits, &diag) == E8_OK)
        run(&model);
    else if (diag.rule == NULL)
        abort();
    free(block);
    return 0;
}
