/* SPDX-License-Identifier: Apache-2.0
 *
 * From a histogram to a range. The searches minimise the expected error of quantisation
 *   E(low, high) = sum over values v outside of |v - end|^p  +  R_p(step) * number of values inside that are not near zero
 * where step = (high - low) / (2^bits - 1) and R_p is the mean of |e|^p for e uniform in [-step/2, step/2]. Zero has a code of
 * its own and costs nothing. p = 2 is the mean squared error. AUTO takes p = 3: with p = 2 the mass of small values buys its
 * finer step with the largest ones, which carry the decision in classifiers and detectors. */
#include "range.h"

#include "observer.h"

e8_range_options e8_default_range_options(void)
{
    return (e8_range_options){.method = E8_METHOD_AUTO, .percentile = 99.99f, .bits = 8, .symmetric = 0};
}

/* Moments of the values beyond an end, summed from the outermost bin inwards: m[i] = sum of |v|^i, a bin counting as evenly
 * filled between its edges. */
struct tail {
    double m[4];
    double count;
};

static void tail_add(struct tail *t, double n, double near, double far)
{
    double middle = 0.5 * (near + far), width = far - near, second = middle * middle + width * width / 12.0;
    t->count += n;
    t->m[1] += n * middle;
    t->m[2] += n * second;
    t->m[3] += n * middle * (second + width * width / 6.0);
}

/* Sum of (|v| - end)^power over the tail. */
static double tail_error(const struct tail *t, double end, int power)
{
    double e;
    if (power == 2)
        e = t->m[2] - 2.0 * end * t->m[1] + end * end * t->count;
    else
        e = t->m[3] - 3.0 * end * t->m[2] + 3.0 * end * end * t->m[1] - end * end * end * t->count;
    return e > 0.0 ? e : 0.0;
}

static double round_error(double step, int power)
{
    return power == 2 ? step * step / 12.0 : step * step * step / 32.0;
}

struct search {
    const struct observer *o;
    double steps;   /* 2^bits - 1 */
    double counted; /* values that are not near zero */
    int power;
};

/* One end of the range: `end` is its magnitude, `cost` and `clipped` what lies beyond. */
struct side {
    const uint64_t *bins;
    double extreme; /* magnitude of the outermost value on this side, 0 if there is none */
    double end, cost, clipped;
};

static double total_error(const struct search *s, double cost, double clipped, double width)
{
    return cost + round_error(width / s->steps, s->power) * (s->counted - clipped);
}

/* Move one end to where the error is least while the other stays. The candidates are the extreme and all bin edges below. */
static bool improve_side(const struct search *s, struct side *a, const struct side *b)
{
    struct tail tail = {{0}, 0};
    struct side best = *a;
    double least = total_error(s, a->cost + b->cost, a->clipped + b->clipped, a->end + b->end);
    bool better = false;
    for (int32_t k = HALF_BINS; k > 0; k--) {
        double far = bin_edge(s->o->top, k), near = bin_edge(s->o->top, k - 1);
        if (near > a->extreme) continue;
        if (far > a->extreme) far = a->extreme;
        double cost = tail_error(&tail, far, s->power);
        double error = total_error(s, cost + b->cost, tail.count + b->clipped, far + b->end);
        if (error < least) {
            least = error, better = true;
            best.end = far, best.cost = cost, best.clipped = tail.count;
        }
        tail_add(&tail, (double)a->bins[k - 1], near, far);
    }
    *a = best;
    return better;
}

/* Both ends at the same magnitude. */
static void search_symmetric(const struct search *s, struct side *low, struct side *high)
{
    double extreme = low->extreme > high->extreme ? low->extreme : high->extreme, best = extreme, least = -1.0;
    struct tail tail = {{0}, 0};
    for (int32_t k = HALF_BINS; k > 0; k--) {
        double far = bin_edge(s->o->top, k), near = bin_edge(s->o->top, k - 1);
        if (near > extreme) continue;
        if (far > extreme) far = extreme;
        double error = total_error(s, tail_error(&tail, far, s->power), tail.count, 2.0 * far);
        if (least < 0.0 || error < least) least = error, best = far;
        tail_add(&tail, (double)low->bins[k - 1] + (double)high->bins[k - 1], near, far);
    }
    low->end = high->end = best;
}

static void least_error(const struct observer *o, const e8_range_options *options, int power, float *low, float *high)
{
    struct search s = {o, options->bits == 8 ? 255.0 : 65535.0, (double)(o->sampled - o->small), power};
    struct side a = {.bins = o->bins, .extreme = o->low < 0.0f ? -(double)o->low : 0.0};
    struct side b = {.bins = o->bins + HALF_BINS, .extreme = o->high > 0.0f ? (double)o->high : 0.0};
    a.end = a.extreme;
    b.end = b.extreme;
    if (options->symmetric) {
        search_symmetric(&s, &a, &b);
    } else {
        /* Each round moves both ends down the error; eight are more than it takes. */
        for (int round = 0; round < 8; round++) {
            bool moved = improve_side(&s, &a, &b);
            if (!improve_side(&s, &b, &a) && !moved) break;
        }
    }
    *low = (float)-a.end;
    *high = (float)b.end;
}

static bool options_are_sound(const e8_range_options *options)
{
    if (options->method < E8_METHOD_AUTO || options->method > E8_METHOD_MSE) return false;
    if (options->bits != 8 && options->bits != 16) return false;
    return options->percentile > 50.0f && options->percentile <= 100.0f;
}

static void choose(const struct observer *o, const e8_range_options *options, float *low, float *high, float *scratch)
{
    double tail = (1.0 - (double)options->percentile / 100.0) * (double)o->sampled, runs = o->runs ? (double)o->runs : 1.0;
    *low = o->low;
    *high = o->high;
    switch (options->method) {
    case E8_METHOD_AUTO: least_error(o, options, 3, low, high); break;
    case E8_METHOD_MSE: least_error(o, options, 2, low, high); break;
    case E8_METHOD_MOVING_AVERAGE:
        if (o->runs) *low = (float)o->average_low, *high = (float)o->average_high;
        break;
    case E8_METHOD_PERCENTILE:
        *low = (float)observer_quantile(o, NULL, o->bins, tail, false);
        *high = (float)observer_quantile(o, NULL, o->bins, tail, true);
        break;
    case E8_METHOD_REMOVAL_OUTLIER:
        if (o->runs) *low = (float)(o->quantile_low / runs), *high = (float)(o->quantile_high / runs);
        break;
    case E8_METHOD_KL: range_by_divergence(o, low, high, scratch); break;
    default: break;
    }
}

e8_status e8_observer_range(const e8_observer *observer, const e8_range_options *options, float *low, float *high,
                            e8_observer_scratch *scratch)
{
    const struct observer *o = observer_in(observer);
    if (!options_are_sound(options)) return E8_ERR_ARGUMENT;
    *low = *high = 0.0f;
    if (observer_is_empty(o)) return E8_OK;
    choose(o, options, low, high, (float *)(void *)scratch->opaque);
    *low = *low < 0.0f ? *low : 0.0f;
    *high = *high > 0.0f ? *high : 0.0f;
    if (options->symmetric) {
        float end = -*low > *high ? -*low : *high;
        *low = -end;
        *high = end;
    }
    return E8_OK;
}

/* Clipping of one half beyond `end`; adds to the error's fields, which are sums here. */
static void half_error(const struct observer *o, const uint64_t *bins, double end, e8_range_error *e)
{
    for (int32_t k = 0; k < HALF_BINS; k++) {
        double n = (double)bins[k], near = bin_edge(o->top, k), far = bin_edge(o->top, k + 1);
        double middle = 0.5 * (near + far), variance = (far - near) * (far - near) / 12.0;
        e->power += n * (middle * middle + variance);
        if (middle > end) {
            e->clip_rate += n;
            e->clip_error += n * ((middle - end) * (middle - end) + variance);
        }
    }
}

e8_status e8_observer_error(const e8_observer *observer, float low, float high, int32_t bits, e8_range_error *error)
{
    const struct observer *o = observer_in(observer);
    if ((bits != 8 && bits != 16) || !(low <= 0.0f && high >= 0.0f)) return E8_ERR_ARGUMENT;
    memset(error, 0, sizeof *error);
    if (o->sampled == 0) return E8_OK;
    double step = ((double)high - (double)low) / (bits == 8 ? 255.0 : 65535.0), sampled = (double)o->sampled;
    half_error(o, o->bins, -(double)low, error);
    half_error(o, o->bins + HALF_BINS, (double)high, error);
    error->round_error = step * step / 12.0 * ((double)(o->sampled - o->small) - error->clip_rate) / sampled;
    error->clip_rate /= sampled;
    error->clip_error /= sampled;
    error->power /= sampled;
    return E8_OK;
}

void e8_scale_of_range(float low, float high, int32_t bits, int32_t symmetric, float *scale, int32_t *zero_point)
{
    const float smallest = 0x1p-30f, largest = 0x1p30f;
    low = low < 0.0f ? low : 0.0f;
    high = high > 0.0f ? high : 0.0f;
    *zero_point = 0;
    *scale = 1.0f;
    if (!(high - low > 0.0f)) return;
    if (bits == 16 || symmetric) {
        float end = -low > high ? -low : high;
        *scale = end / (bits == 16 ? 32767.0f : 127.0f);
    } else {
        *scale = (high - low) / 255.0f;
    }
    *scale = *scale > smallest ? *scale : smallest;
    *scale = *scale < largest ? *scale : largest;
    if (bits == 16 || symmetric) return;
    float zero = -128.0f - low / *scale; /* between -128 and 127 */
    int32_t below = (int32_t)(zero + 256.0f) - 256;
    float rest = zero - (float)below;
    *zero_point = below + (rest > 0.5f || (rest == 0.5f && (below & 1)) ? 1 : 0);
    if (*zero_point > 127) *zero_point = 127;
    if (*zero_point < -128) *zero_point = -128;
}
