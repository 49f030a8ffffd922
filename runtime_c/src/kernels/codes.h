/* SPDX-License-Identifier: Apache-2.0 */
#ifndef E8_CODES_H
#define E8_CODES_H

#include <stddef.h>
#include <stdint.h>

/* Code number j of a little-endian bit string of `bits` (1 to 16) each, as kernel.h describes it. */
static inline int32_t code_at(const uint8_t *codes, uint32_t bits, size_t j)
{
    size_t first = j * bits, last = first + bits - 1;
    uint32_t word = 0;
    for (size_t byte = first / 8; byte <= last / 8; byte++) word |= (uint32_t)codes[byte] << 8 * (byte - first / 8);
    word = word >> first % 8 & ((1u << bits) - 1);
    if (bits == 1) return word ? -1 : 1;
    uint32_t sign = 1u << (bits - 1);
    return (int32_t)(word ^ sign) - (int32_t)sign;
}

#endif
