/* SPDX-License-Identifier: Apache-2.0
 *
 * Joining observers, and their form in files: little-endian, every number at its own width. A state that is read back is
 * checked for everything that the arithmetic relies on. */
#include "observer.h"

#include "../flat.h"

#include <float.h>

static uint8_t *put32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> 8 * i);
    return p + 4;
}

static uint8_t *put64(uint8_t *p, uint64_t value)
{
    return put32(put32(p, (uint32_t)value), (uint32_t)(value >> 32));
}

static uint8_t *put_float(uint8_t *p, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put32(p, bits);
}

static uint8_t *put_double(uint8_t *p, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put64(p, bits);
}

static double load_double(const uint8_t *p)
{
    uint64_t bits = flat_load64(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void observer_write_state(const struct observer *o, uint8_t *p)
{
    p = put64(p, o->runs), p = put64(p, o->count), p = put64(p, o->sampled);
    p = put64(p, o->small), p = put64(p, o->huge), p = put64(p, o->nan);
    p = put_double(p, o->average_low), p = put_double(p, o->average_high);
    p = put_double(p, o->quantile_low), p = put_double(p, o->quantile_high);
    p = put_float(p, o->low), p = put_float(p, o->high);
    p = put_float(p, o->run_low), p = put_float(p, o->run_high);
    p = put_float(p, o->run_quantile_low), p = put_float(p, o->run_quantile_high);
    p = put32(p, (uint32_t)o->top);
    for (int32_t k = 0; k < BINS; k++) p = put64(p, o->bins[k]);
}

/* An ordered pair of values below 2^29, or the pair that stands for "none yet". */
static bool sound_pair(float low, float high)
{
    if (low == FLT_MAX && high == -FLT_MAX) return true;
    return low <= high && low > -HUGE_MAGNITUDE && high < HUGE_MAGNITUDE;
}

static bool sound_sum(double value, uint64_t runs)
{
    double most = (double)HUGE_MAGNITUDE * ((double)runs + 1.0);
    return value >= -most && value <= most;
}

static bool sound_window(const struct head *o)
{
    if (o->top < LOWEST_TOP || o->top >= HUGE_EXPONENT) return false;
    if (!(o->low <= o->high)) return o->sampled == 0 && o->runs == 0;
    double most = octave_start(o->top) * 2.0;
    return (double)o->high < most && (double)o->low > -most;
}

static void read_head(struct head *o, const uint8_t *p)
{
    memset(o, 0, sizeof *o);
    o->runs = flat_load64(p), o->count = flat_load64(p + 8), o->sampled = flat_load64(p + 16);
    o->small = flat_load64(p + 24), o->huge = flat_load64(p + 32), o->nan = flat_load64(p + 40);
    p += 48;
    o->average_low = load_double(p), o->average_high = load_double(p + 8);
    o->quantile_low = load_double(p + 16), o->quantile_high = load_double(p + 24);
    p += 32;
    o->low = flat_load_float(p), o->high = flat_load_float(p + 4);
    o->run_low = flat_load_float(p + 8), o->run_high = flat_load_float(p + 12);
    o->run_quantile_low = flat_load_float(p + 16), o->run_quantile_high = flat_load_float(p + 20);
    o->top = (int32_t)flat_load32(p + 24);
}

bool observer_state_is_sound(const uint8_t *bytes)
{
    const uint64_t most = (uint64_t)1 << 60;
    struct head o;
    uint64_t sum = 0;
    read_head(&o, bytes);
    if (o.runs > most || o.count > most || o.huge > o.count || o.nan > most || o.sampled > o.count) return false;
    for (int32_t k = 0; k < BINS; k++) {
        uint64_t n = flat_load64(bytes + OBSERVER_HEAD_BYTES + 8 * (size_t)k);
        if (n > most - sum) return false;
        sum += n;
    }
    if (o.small > most - sum || sum + o.small != o.sampled) return false;
    if (!sound_pair(o.low, o.high) || !sound_pair(o.run_low, o.run_high)) return false;
    if (!sound_pair(o.run_quantile_low, o.run_quantile_high)) return false;
    return sound_window(&o) && sound_sum(o.average_low, 0) && sound_sum(o.average_high, 0) && sound_sum(o.quantile_low, o.runs) &&
           sound_sum(o.quantile_high, o.runs);
}

void observer_read_state(struct observer *o, const uint8_t *bytes)
{
    read_head(&o->head, bytes);
    for (int32_t k = 0; k < BINS; k++) o->bins[k] = flat_load64(bytes + OBSERVER_HEAD_BYTES + 8 * (size_t)k);
}

static void merge_pair(float *low, float *high, float other_low, float other_high)
{
    *low = other_low < *low ? other_low : *low;
    *high = other_high > *high ? other_high : *high;
}

/* All but the bins; the window then reaches as far as the other's. */
static void merge_head(struct observer *o, const struct head *other)
{
    uint64_t runs = o->runs + other->runs;
    if (other->low <= other->high) observer_widen(o, -other->low > other->high ? -other->low : other->high);
    if (runs) {
        double share = (double)other->runs / (double)runs;
        o->average_low += (other->average_low - o->average_low) * share;
        o->average_high += (other->average_high - o->average_high) * share;
    }
    o->quantile_low += other->quantile_low;
    o->quantile_high += other->quantile_high;
    o->runs = runs;
    o->count += other->count;
    o->sampled += other->sampled;
    o->small += other->small;
    o->huge += other->huge;
    o->nan += other->nan;
    merge_pair(&o->low, &o->high, other->low, other->high);
    merge_pair(&o->run_low, &o->run_high, other->run_low, other->run_high);
    merge_pair(&o->run_quantile_low, &o->run_quantile_high, other->run_quantile_low, other->run_quantile_high);
}

/* Bin `k` of a window that may be lower: it lies whole octaves further down here, as if it had been counted here. */
static void merge_bin(struct observer *o, int32_t top, int32_t k, uint64_t count)
{
    int32_t by = o->top > top ? (o->top - top) * OCTAVE_BINS : 0, in_half = k % HALF_BINS;
    if (in_half >= by)
        o->bins[k - by] += count;
    else
        o->small += count;
}

void observer_merge_state(struct observer *o, const uint8_t *bytes)
{
    struct head other;
    read_head(&other, bytes);
    merge_head(o, &other);
    for (int32_t k = 0; k < BINS; k++) merge_bin(o, other.top, k, flat_load64(bytes + OBSERVER_HEAD_BYTES + 8 * (size_t)k));
}

void e8_observer_merge(e8_observer *observer, const e8_observer *other)
{
    struct observer *o = observer_of(observer);
    const struct observer *added = observer_in(other);
    merge_head(o, &added->head);
    for (int32_t k = 0; k < BINS; k++) merge_bin(o, added->top, k, added->bins[k]);
}
