/* SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the bytes are, nothing outside them is read, and the work is bounded by the decoded size: each of a step's 8 codes takes
 * one table entry and at most one word. */
#include "entropy.h"

#include "checked.h"

enum { STATE_BYTES = 4 * ENTROPY_LANES, STEP_BYTES = 2 * ENTROPY_LANES, HEAD_BYTES = 4 };
enum { LOWEST_STATE = 65536, MOST = ENTROPY_SLOTS - 1 };

/* A code's frequency at *at, which moves on; more than all slots where the data end. */
static uint32_t read_frequency(struct flat_vector data, size_t *at)
{
    uint32_t first = *at < data.count ? data.bytes[(*at)++] : 255;
    if (first < 128) return first;
    return (first - 128) << 8 | (*at < data.count ? data.bytes[(*at)++] : 255u);
}

bool entropy_is_sound(const struct entropy *e)
{
    size_t at = HEAD_BYTES;
    uint32_t sum = 0;
    if (e->data.count < HEAD_BYTES) return false;
    size_t steps = e->bytes / e->bits, each = flat_load32(e->data.bytes);
    if (each == 0 || each > steps) return false;
    for (uint32_t code = 0; code < 1u << e->bits; code++) {
        uint32_t frequency = read_frequency(e->data, &at);
        if (frequency > MOST) return false;
        sum += frequency;
    }
    size_t segments = (size_t)size_div_up(steps, each), left = e->data.count - at;
    if (sum != ENTROPY_SLOTS || segments > left / 4) return false;
    const uint8_t *words = e->data.bytes + at;
    left -= 4 * segments;
    for (size_t i = 0; i < segments; i++) {
        uint64_t bytes = STATE_BYTES + 2 * (uint64_t)flat_load32(words + 4 * i);
        if (bytes > left) return false;
        left -= (size_t)bytes;
    }
    return left == 0;
}

static size_t fill_table(const struct entropy *e, uint32_t table[ENTROPY_SLOTS])
{
    size_t at = HEAD_BYTES, slot = 0;
    for (uint32_t code = 0; code < 1u << e->bits; code++) {
        uint32_t frequency = read_frequency(e->data, &at);
        for (uint32_t place = 0; place < frequency; place++) table[slot++] = frequency << 20 | place << 8 | code;
    }
    return at;
}

/* `left` bytes of words follow the states at `from`. */
static bool decode_segment(const uint32_t *table, const uint8_t *from, size_t left, uint32_t bits, size_t steps, uint8_t *to)
{
    uint32_t x[ENTROPY_LANES], differ = 0;
    uint8_t tail[STEP_BYTES];
    for (size_t i = 0; i < ENTROPY_LANES; i++) x[i] = flat_load32(from + 4 * i);
    from += STATE_BYTES;
    for (; steps; steps--) {
        const uint8_t *words = from;
        uint64_t codes = 0;
        if (left < STEP_BYTES) {
            memset(tail, 0, sizeof tail);
            memcpy(tail, from, left);
            words = tail;
        }
        size_t used = 0;
        for (uint32_t i = 0; i < ENTROPY_LANES; i++) {
            uint32_t slot = table[x[i] & MOST], state = (slot >> 20) * (x[i] >> 12) + (slot >> 8 & MOST);
            uint32_t low = state < LOWEST_STATE ? 0xFFFFFFFFu : 0; /* a branch here would be mispredicted */
            codes |= (uint64_t)(slot & 255) << i * bits;
            x[i] = state << (low & 16) | (flat_load16(words + used) & low);
            used += low & 2;
        }
        if (used > left) return false;
        from += used;
        left -= used;
        for (uint32_t i = 0; i < bits; i++, codes >>= 8) *to++ = (uint8_t)codes;
    }
    for (size_t i = 0; i < ENTROPY_LANES; i++) differ |= x[i] ^ LOWEST_STATE;
    return differ == 0 && left == 0;
}

bool entropy_decode(const struct entropy *e, uint32_t table[ENTROPY_SLOTS], uint8_t *to)
{
    size_t steps = e->bytes / e->bits, each = flat_load32(e->data.bytes);
    const uint8_t *words = e->data.bytes + fill_table(e, table), *from = words + 4 * (size_t)size_div_up(steps, each);
    for (size_t i = 0; steps; i++) {
        size_t bytes = 2 * (size_t)flat_load32(words + 4 * i), now = steps < each ? steps : each;
        if (!decode_segment(table, from, bytes, e->bits, now, to)) return false;
        from += STATE_BYTES + bytes;
        to += now * e->bits;
        steps -= now;
    }
    return true;
}
