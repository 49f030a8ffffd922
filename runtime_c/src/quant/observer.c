/* SPDX-License-Identifier: Apache-2.0
 *
 * Watching a stream of numbers; edge8_quant.h says what the histogram is. */
#include "observer.h"

#include <float.h>

enum { BLOCK = 256, MOST_SAMPLED = 32768, LANES = 16 };

void e8_observer_init(e8_observer *observer)
{
    struct observer *o = observer_of(observer);
    memset(observer, 0, sizeof *observer);
    o->top = LOWEST_TOP;
    o->low = o->run_low = o->run_quantile_low = FLT_MAX;
    o->high = o->run_high = o->run_quantile_high = -FLT_MAX;
}

/* Move the counts down by `octaves`; what falls out of the window is near zero now. */
static void shift_half(struct observer *o, uint64_t *half, int32_t octaves)
{
    int32_t by = octaves < OCTAVES ? octaves * OCTAVE_BINS : HALF_BINS;
    for (int32_t k = 0; k < by; k++) o->small += half[k];
    for (int32_t k = 0; k < HALF_BINS; k++) half[k] = k + by < HALF_BINS ? half[k + by] : 0;
}

void observer_widen(struct observer *o, float magnitude)
{
    uint32_t bits;
    memcpy(&bits, &magnitude, sizeof bits);
    int32_t exponent = (int32_t)(bits >> 23 & 255u);
    if (exponent <= o->top) return;
    shift_half(o, o->bins, exponent - o->top);
    shift_half(o, o->bins + HALF_BINS, exponent - o->top);
    o->top = exponent;
}

/* Extremes of plain values; false when a huge value or a NaN is among them (the extremes are of no use then). Sixteen
 * independent lanes, which any compiler turns into vector minima and maxima. */
static bool find_extremes(const float *x, size_t count, float *low, float *high)
{
    float lows[LANES], highs[LANES];
    int32_t strange[LANES] = {0}, any = 0;
    size_t i = 0;
    for (int j = 0; j < LANES; j++) lows[j] = FLT_MAX, highs[j] = -FLT_MAX;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) {
            float v = x[i + (size_t)j];
            lows[j] = v < lows[j] ? v : lows[j];
            highs[j] = v > highs[j] ? v : highs[j];
            strange[j] |= v != v;
        }
    for (; i < count; i++) {
        lows[0] = x[i] < lows[0] ? x[i] : lows[0];
        highs[0] = x[i] > highs[0] ? x[i] : highs[0];
        strange[0] |= x[i] != x[i];
    }
    *low = lows[0], *high = highs[0];
    for (int j = 0; j < LANES; j++) {
        *low = lows[j] < *low ? lows[j] : *low;
        *high = highs[j] > *high ? highs[j] : *high;
        any |= strange[j];
    }
    return !any && *low > -HUGE_MAGNITUDE && *high < HUGE_MAGNITUDE;
}

/* The same where some values are huge or NaN: these are counted and left out. */
static void find_plain_extremes(struct observer *o, const float *x, size_t count, float *low, float *high)
{
    *low = FLT_MAX, *high = -FLT_MAX;
    for (size_t i = 0; i < count; i++) {
        if (x[i] != x[i]) {
            o->nan++;
        } else if (x[i] >= HUGE_MAGNITUDE || x[i] <= -HUGE_MAGNITUDE) {
            o->huge++;
        } else {
            *low = x[i] < *low ? x[i] : *low;
            *high = x[i] > *high ? x[i] : *high;
        }
    }
}

static void count_values(uint32_t *counts, int32_t top, const float *x, size_t count)
{
    const int32_t base = (top - (OCTAVES - 1)) << MANTISSA_BITS;
    int32_t places[BLOCK];
    while (count > 0) {
        size_t n = count < BLOCK ? count : BLOCK;
        for (size_t i = 0; i < n; i++) {
            int32_t bits, place;
            memcpy(&bits, x + i, sizeof bits);
            int32_t k = ((bits & 0x7FFFFFFF) >> SHIFT) - base;
            place = k + (bits < 0 ? 0 : HALF_BINS);
            place = k < 0 ? BINS + ((int32_t)i & (SMALL_LANES - 1)) : place;
            places[i] = k >= HALF_BINS ? DISCARD : place;
        }
        for (size_t i = 0; i < n; i++) counts[places[i]]++;
        x += n;
        count -= n;
    }
}

/* Count all values, or MOST_SAMPLED of them in blocks: one at a scattered place of each of equal parts, so that no period of
 * the data (channels, rows) falls in step with the blocks. */
static void sample_values(uint32_t *counts, int32_t top, const float *x, size_t count)
{
    if (count <= MOST_SAMPLED) {
        count_values(counts, top, x, count);
        return;
    }
    const uint32_t blocks = MOST_SAMPLED / BLOCK;
    const size_t part = count / blocks;
    for (uint32_t b = 0; b < blocks; b++) {
        uint64_t scattered = (uint32_t)(b * 0x9E3779B1u) >> 8; /* 24 bits; multiples of 2^32 over the golden ratio spread evenly */
        size_t start = b * part + (size_t)(scattered * (part - BLOCK) >> 24);
        count_values(counts, top, x + start, BLOCK);
    }
}

static uint64_t count_at(const uint32_t *narrow, const uint64_t *wide, int32_t place)
{
    return narrow ? narrow[place] : wide[place];
}

double observer_quantile(const struct observer *o, const uint32_t *narrow, const uint64_t *wide, double skip, bool from_high)
{
    double end = from_high ? (double)o->high : (double)o->low;
    int32_t outer = from_high ? HALF_BINS : 0, inner = from_high ? 0 : HALF_BINS;
    double sign = from_high ? 1.0 : -1.0, left = skip;
    if (!(skip > 0.0)) return end;
    /* From the outermost bin of the near half inwards, over the small values, and out through the far half. */
    for (int32_t k = HALF_BINS - 1; k >= 0; k--) {
        double n = (double)count_at(narrow, wide, outer + k);
        if (n > left || (n > 0.0 && n == left)) {
            double far = bin_edge(o->top, k + 1), near = bin_edge(o->top, k), value = far - (far - near) * (left / n);
            return (value > sign * end) ? end : sign * value;
        }
        left -= n;
    }
    left -= narrow ? (double)narrow[BINS] + narrow[BINS + 1] + narrow[BINS + 2] + narrow[BINS + 3] : (double)o->small;
    if (left <= 0.0) return 0.0;
    for (int32_t k = 0; k < HALF_BINS; k++) {
        double n = (double)count_at(narrow, wide, inner + k);
        if (n >= left && n > 0.0) {
            double far = bin_edge(o->top, k + 1), near = bin_edge(o->top, k);
            return -sign * (near + (far - near) * (left / n));
        }
        left -= n;
    }
    return from_high ? (double)o->low : (double)o->high;
}

/* Fold the counts of one call into the observer and leave the scratch zero. */
static void fold(struct observer *o, struct scratch *s)
{
    uint64_t sampled = 0, small = 0;
    for (int32_t k = 0; k < BINS; k++) {
        sampled += s->counts[k];
        o->bins[k] += s->counts[k];
    }
    for (int32_t k = 0; k < SMALL_LANES; k++) small += s->counts[BINS + k];
    o->small += small;
    o->sampled += sampled + small;
    double tail = 1e-4 * (double)(sampled + small);
    float low = (float)observer_quantile(o, s->counts, NULL, tail, false);
    float high = (float)observer_quantile(o, s->counts, NULL, tail, true);
    o->run_quantile_low = low < o->run_quantile_low ? low : o->run_quantile_low;
    o->run_quantile_high = high > o->run_quantile_high ? high : o->run_quantile_high;
}

void e8_observer_add(e8_observer *observer, const float *values, size_t count, e8_observer_scratch *scratch)
{
    struct observer *o = observer_of(observer);
    struct scratch *s = (struct scratch *)(void *)scratch->opaque;
    uint64_t nan = o->nan;
    float low, high;
    if (count == 0) return;
    if (!find_extremes(values, count, &low, &high)) find_plain_extremes(o, values, count, &low, &high);
    o->count += count - (o->nan - nan);
    if (low > high) return; /* nothing but huge values and NaN */
    o->low = low < o->low ? low : o->low;
    o->high = high > o->high ? high : o->high;
    o->run_low = low < o->run_low ? low : o->run_low;
    o->run_high = high > o->run_high ? high : o->run_high;
    observer_widen(o, -low > high ? -low : high);
    memset(s, 0, sizeof *s);
    sample_values(s->counts, o->top, values, count);
    fold(o, s);
}

void e8_observer_end(e8_observer *observer)
{
    struct observer *o = observer_of(observer);
    if (o->run_low > o->run_high) return;
    const double keep = o->runs ? 0.9 : 0.0;
    o->average_low = keep * o->average_low + (1.0 - keep) * (double)o->run_low;
    o->average_high = keep * o->average_high + (1.0 - keep) * (double)o->run_high;
    o->quantile_low += (double)o->run_quantile_low;
    o->quantile_high += (double)o->run_quantile_high;
    o->runs++;
    o->run_low = o->run_quantile_low = FLT_MAX;
    o->run_high = o->run_quantile_high = -FLT_MAX;
}

void e8_observer_read(const e8_observer *observer, e8_observed *seen)
{
    const struct observer *o = observer_in(observer);
    bool empty = observer_is_empty(o);
    *seen = (e8_observed){
        .runs = o->runs,
        .count = o->count,
        .sampled = o->sampled,
        .near_zero = o->small,
        .huge = o->huge,
        .nan = o->nan,
        .low = empty ? 0.0f : o->low,
        .high = empty ? 0.0f : o->high,
    };
}

static size_t put_bin(double *edges, uint64_t *counts, size_t capacity, size_t at, double low, double high, uint64_t count)
{
    if (count == 0) return at;
    if (at < capacity) {
        edges[2 * at] = low;
        edges[2 * at + 1] = high;
        counts[at] = count;
    }
    return at + 1;
}

size_t e8_observer_bins(const e8_observer *observer, double *edges, uint64_t *counts, size_t capacity)
{
    const struct observer *o = observer_in(observer);
    size_t at = 0;
    double smallest = bin_edge(o->top, 0);
    for (int32_t k = HALF_BINS - 1; k >= 0; k--)
        at = put_bin(edges, counts, capacity, at, -bin_edge(o->top, k + 1), -bin_edge(o->top, k), o->bins[k]);
    at = put_bin(edges, counts, capacity, at, -smallest, smallest, o->small);
    for (int32_t k = 0; k < HALF_BINS; k++)
        at = put_bin(edges, counts, capacity, at, bin_edge(o->top, k), bin_edge(o->top, k + 1), o->bins[HALF_BINS + k]);
    return at < capacity ? at : capacity;
}
