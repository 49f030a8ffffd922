/* SPDX-License-Identifier: Apache-2.0
 *
 * Entropy-coded weights; the form is described in schemas/README.md. */
#ifndef E8_ENTROPY_H
#define E8_ENTROPY_H

#include "flat.h"

/* A table entry for each value of a state's low bits: code, then 12 bits of place within the code's share, then of frequency. */
enum { ENTROPY_SLOTS = 4096, ENTROPY_LANES = 8 };

/* What one tensor's `data` holds. */
struct entropy {
    struct flat_vector data;
    uint32_t bits; /* of a code, 1 to 8 */
    size_t bytes;  /* decoded, a positive multiple of bits */
};

/* True when the frequencies and the sizes of the segments fit each other and the data. */
bool entropy_is_sound(const struct entropy *e);

/* Decode to `bytes` bytes what is sound; false when a segment does not end where it should (its bytes are then arbitrary). */
bool entropy_decode(const struct entropy *e, uint32_t table[ENTROPY_SLOTS], uint8_t *to);

#endif
