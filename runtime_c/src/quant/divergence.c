/* SPDX-License-Identifier: Apache-2.0
 *
 * The KL method, with the semantics that calibration tools share: magnitudes in 2048 equal bins, zeros left out; for each
 * clip of i bins, P is the histogram up to i with everything beyond added to its last bin, and Q the same bins without the
 * tail, merged into 128 levels and spread evenly over the bins of P that are not empty. The clip of least
 *   KL(P, Q) = sum P/|P| * log((P/|P|) / (Q/|Q|))
 * wins. Where Q has nothing for a tail that is the share t of all values, the tail costs t * (1 + 15 t): the usual 1 for outliers,
 * far more for a spike at the far end (ReLU6, black borders), which must not be cheaper to cut off than to keep. */
#include "range.h"

enum { LINEAR_BINS = 2048, LEVELS = 128, STEP = 8 };

static const double SPIKE_COST = 15.0;

double log_positive(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t exponent = (int32_t)(bits >> 52) - 1023;
    bits = (bits & 0x000FFFFFFFFFFFFFu) | (uint64_t)1023 << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    /* log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716 */
    double s = (m - 1.0) / (m + 1.0), z = s * s, sum = 0.0;
    for (int k = 17; k >= 3; k -= 2) sum = (sum + 1.0 / (double)k) * z;
    return 2.0 * s * (1.0 + sum) + (double)exponent * 0.69314718055994530942;
}

/* Put the magnitudes of both halves into LINEAR_BINS equal bins up to `most`. The values of a bin count as evenly spaced inside
 * it, each in one bin: a sparse tail must stay sparse, for the method rests on which bins are empty. */
static void make_linear(const struct observer *o, double most, float *linear)
{
    double width = most / LINEAR_BINS;
    for (int32_t i = 0; i < LINEAR_BINS; i++) linear[i] = 0.0f;
    for (int32_t k = 0; k < HALF_BINS; k++) {
        double n = (double)(o->bins[k] + o->bins[HALF_BINS + k]);
        double near = bin_edge(o->top, k), far = bin_edge(o->top, k + 1), placed = 0.0;
        if (n == 0.0 || near > most) continue;
        if (far > most) far = most;
        int32_t first = (int32_t)(near / width), last = (int32_t)(far / width);
        if (first > LINEAR_BINS - 1) first = LINEAR_BINS - 1;
        if (last > LINEAR_BINS - 1) last = LINEAR_BINS - 1;
        for (int32_t i = first; i <= last; i++) {
            double share = far > near ? ((double)(i + 1) * width - near) / (far - near) : 1.0;
            double upto = i == last || share >= 1.0 ? n : (double)(int64_t)(n * share + 0.5);
            linear[i] += (float)(upto - placed);
            placed = upto;
        }
    }
}

/* KL of the clip at `bins` bins. */
static double divergence(const float *linear, int32_t bins, double inside, double tail, double entropy)
{
    double all = inside + tail, last = (double)linear[bins - 1], cross = 0.0;
    double sum = entropy; /* of h log h inside; the last bin takes the tail */
    if (last > 0.0) sum -= last * log_positive(last);
    if (last + tail > 0.0) sum += (last + tail) * log_positive(last + tail);
    for (int32_t level = 0; level < LEVELS; level++) {
        int32_t begin = level * bins / LEVELS, end = (level + 1) * bins / LEVELS;
        double mass = 0.0, filled = 0.0;
        for (int32_t i = begin; i < end; i++) {
            mass += (double)linear[i];
            filled += linear[i] > 0.0f || (i == bins - 1 && tail > 0.0) ? 1.0 : 0.0;
        }
        double p = mass + (level == LEVELS - 1 ? tail : 0.0);
        if (mass > 0.0)
            cross += p * log_positive(mass / filled);
        else if (p > 0.0)
            cross += p * (log_positive(p) - 1.0 - SPIKE_COST * p / all);
    }
    return (sum - cross) / all - log_positive(all) + log_positive(inside);
}

void range_by_divergence(const struct observer *o, float *low, float *high, float *scratch)
{
    double most = -(double)o->low > (double)o->high ? -(double)o->low : (double)o->high;
    double total = 0.0, inside = 0.0, entropy = 0.0, least = 0.0, clip = most;
    bool found = false;
    if (!(most > octave_start(LOWEST_TOP - OCTAVES + 1))) return;
    make_linear(o, most, scratch);
    for (int32_t i = 0; i < LINEAR_BINS; i++) total += (double)scratch[i];
    if (total < LINEAR_BINS) return; /* so few values say nothing about a distribution */
    for (int32_t bins = 1; bins <= LINEAR_BINS; bins++) {
        double h = (double)scratch[bins - 1];
        inside += h;
        if (h > 0.0) entropy += h * log_positive(h);
        if (bins < LEVELS || bins % STEP != 0 || !(inside > 0.0)) continue;
        double tail = total - inside;
        double kl = divergence(scratch, bins, inside, tail > 0.0 ? tail : 0.0, entropy);
        if (!found || kl < least) found = true, least = kl, clip = most * (double)bins / LINEAR_BINS;
    }
    if (-(double)*low > clip) *low = (float)-clip;
    if ((double)*high > clip) *high = (float)clip;
}
