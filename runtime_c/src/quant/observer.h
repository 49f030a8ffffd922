/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of an observer. Bin k of a half holds magnitudes from bin_edge(top, k) up to bin_edge(top, k + 1). */
#ifndef E8_OBSERVER_H
#define E8_OBSERVER_H

#include "../names.h"

#include "edge8_quant.h"

#include <stdbool.h>
#include <string.h>

enum {
    MANTISSA_BITS = 6,
    OCTAVE_BINS = 1 << MANTISSA_BITS,
    OCTAVES = 16,
    HALF_BINS = OCTAVES * OCTAVE_BINS,
    BINS = 2 * HALF_BINS,        /* magnitudes of negative values ascending, then of positive ones */
    SHIFT = 23 - MANTISSA_BITS,  /* float bits to exponent and upper mantissa */
    HUGE_EXPONENT = 127 + 29,    /* biased: magnitudes from 2^29 on saturate */
    LOWEST_TOP = OCTAVES + 1,    /* the window stays clear of denormal numbers */
    SMALL_LANES = 4,             /* scratch: neighbours near zero are counted apart, so that no count waits for the one before */
    DISCARD = BINS + SMALL_LANES /* scratch: huge values and NaN */
};

#define HUGE_MAGNITUDE 536870912.0f /* 2^29 */

/* Everything about an observer but its bins. */
#define OBSERVER_HEAD                                                                                                                      \
    uint64_t runs, count, sampled, small, huge, nan;                                                                                       \
    double average_low, average_high;   /* moving average of the runs' extremes */                                                         \
    double quantile_low, quantile_high; /* sums over the runs */                                                                           \
    float low, high;                    /* of all values below 2^29; low > high: none yet */                                               \
    float run_low, run_high;            /* the same for the current run */                                                                 \
    float run_quantile_low, run_quantile_high;                                                                                             \
    int32_t top; /* biased exponent of the window's highest octave */                                                                      \
    uint32_t reserved;

struct head {
    OBSERVER_HEAD
};

struct observer {
    union {
        struct head head;
        struct {
            OBSERVER_HEAD
        };
    };
    uint64_t bins[BINS];
};

struct scratch {
    uint32_t counts[DISCARD + 1];
};

_Static_assert(sizeof(struct observer) <= sizeof(e8_observer), "e8_observer is too small for its content");
_Static_assert(sizeof(struct scratch) <= sizeof(e8_observer_scratch), "e8_observer_scratch is too small for its content");

static inline struct observer *observer_of(e8_observer *observer)
{
    return (struct observer *)(void *)observer->opaque;
}

static inline const struct observer *observer_in(const e8_observer *observer)
{
    return (const struct observer *)(const void *)observer->opaque;
}

/* 2^(biased - 127) */
static inline double octave_start(int32_t biased)
{
    uint64_t bits = (uint64_t)(biased - 127 + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Lower magnitude of bin k; k = HALF_BINS gives the end of the window. */
static inline double bin_edge(int32_t top, int32_t k)
{
    int32_t octave = k >> MANTISSA_BITS, step = k & (OCTAVE_BINS - 1);
    return octave_start(top - (OCTAVES - 1) + octave) * (1.0 + (double)step * (1.0 / OCTAVE_BINS));
}

static inline bool observer_is_empty(const struct observer *o)
{
    return !(o->low <= o->high);
}

/* Let the window reach up to the exponent of `magnitude` (below 2^29). */
void observer_widen(struct observer *o, float magnitude);

/* The value that `skip` of all counted values lie beyond, from the low or the high end: linear inside a bin, between the
 * exact extremes. Give either 32-bit or 64-bit counts. */
double observer_quantile(const struct observer *o, const uint32_t *narrow, const uint64_t *wide, double skip, bool from_high);

/* The portable form, OBSERVER_BYTES long. A state must be sound before it is read or merged. */
#define OBSERVER_HEAD_BYTES (6 * 8 + 4 * 8 + 6 * 4 + 4)
#define OBSERVER_BYTES (OBSERVER_HEAD_BYTES + 8 * (size_t)BINS)
void observer_write_state(const struct observer *o, uint8_t *bytes);
bool observer_state_is_sound(const uint8_t *bytes);
void observer_read_state(struct observer *o, const uint8_t *bytes);
void observer_merge_state(struct observer *o, const uint8_t *bytes);

#endif
