/* SPDX-License-Identifier: Apache-2.0
 *
 * Loops over rows that several operators take as kernels: softmax, layer normalisation, pooling, the passes of a resize, and
 * the requantisation of accumulators per channel. The text is compiled once for the base architecture (reference_rows.c) and once for
 * each level that gains from it, with E8_ROW_TARGET; only single operations are used, so all give the same bits. */
#ifndef E8_ROW_LOOPS_H
#define E8_ROW_LOOPS_H

#include "kernels/kernel.h"
#include "math.h"

#ifndef E8_ROW_TARGET
#define E8_ROW_TARGET
#endif
#define E8_ROW E8_ROW_TARGET static
#define E8_ROW_INLINE E8_ROW_TARGET static inline __attribute__((always_inline))

enum { LANES = 8, POOL_LANES = 32 };

/* Lanes are added pairwise: 0 + 4, 2 + 6, 1 + 5, 3 + 7. */
E8_ROW_INLINE float lane_sum(const float *s)
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* Sum of x; element i goes to lane i mod 8. */
E8_ROW_INLINE float sum_f32(const float *x, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) lanes[k] += x[i + k];
    for (size_t k = 0; i + k < n; k++) lanes[k] += x[i + k];
    return lane_sum(lanes);
}

/* Sum of (x - mean)^2 in the same order. */
E8_ROW_INLINE float spread_f32(const float *x, size_t n, float mean)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) lanes[k] += (x[i + k] - mean) * (x[i + k] - mean);
    for (size_t k = 0; i + k < n; k++) lanes[k] += (x[i + k] - mean) * (x[i + k] - mean);
    return lane_sum(lanes);
}

/* The largest x; a NaN counts only when it comes first. */
E8_ROW_INLINE float largest_f32(const float *x, size_t n)
{
    float lanes[LANES], largest = x[0];
    size_t i = 0;
    for (size_t k = 0; k < LANES; k++) lanes[k] = x[0];
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) lanes[k] = x[i + k] > lanes[k] ? x[i + k] : lanes[k];
    for (size_t k = 0; k < LANES; k++) largest = lanes[k] > largest ? lanes[k] : largest;
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

enum { EXP_BLOCK = 64 }; /* a multiple of LANES */

E8_ROW void softmax_f32(const float *x, float *y, size_t n, int logarithm)
{
    float largest = largest_f32(x, n), lanes[LANES] = {0}, e[EXP_BLOCK];
    for (size_t i = 0; i < n; i += EXP_BLOCK) {
        size_t count = n - i < EXP_BLOCK ? n - i : EXP_BLOCK, k = 0;
        float *to = logarithm ? e : y + i;
        E8_INDEPENDENT
        for (size_t j = 0; j < count; j++) to[j] = exp_float(x[i + j] - largest);
        for (; k + LANES <= count; k += LANES)
            for (size_t j = 0; j < LANES; j++) lanes[j] += to[k + j];
        for (size_t j = 0; k + j < count; j++) lanes[j] += to[k + j];
    }
    if (logarithm) {
        float log_sum = log_float(lane_sum(lanes));
        E8_INDEPENDENT
        for (size_t i = 0; i < n; i++) y[i] = (x[i] - largest) - log_sum;
        return;
    }
    float inverse = 1.0f / lane_sum(lanes);
    for (size_t i = 0; i < n; i++) y[i] *= inverse;
}

/* `falling` holds the table backwards: falling[255 - d] for distance d. So the result of code q is made from
 * falling[255 - (largest - q)], and the results of all codes up to the largest from a piece of it, in order. */
E8_ROW void softmax_s8(const int8_t *x, int8_t *y, size_t n, const uint16_t *falling, int8_t *table)
{
    int32_t largest = -128;
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    const uint16_t *piece = falling + (127 - largest), *at_zero = piece + 128;
    for (size_t i = 0; i < n; i++) sum += at_zero[x[i]];
    float multiplier = 256.0f / (float)sum;
    if (n < 128) {
        for (size_t i = 0; i < n; i++) y[i] = (int8_t)requantise((float)at_zero[x[i]] * multiplier, -128, -128, 127);
        return;
    }
    for (size_t i = 0; i < (size_t)(largest + 129); i++) table[i] = (int8_t)requantise((float)piece[i] * multiplier, -128, -128, 127);
    for (size_t i = 0; i < n; i++) y[i] = table[x[i] + 128];
}

E8_ROW void layer_norm_f32(const float *x, float *y, size_t n, const struct e8_layer_norm *p)
{
    float mean = sum_f32(x, n) / (float)n;
    float r = 1.0f / sqrt_float(spread_f32(x, n, mean) / (float)n + p->epsilon);
    if (p->gamma && p->beta) {
        E8_INDEPENDENT
        for (size_t i = 0; i < n; i++) y[i] = ((x[i] - mean) * r) * p->gamma[i] + p->beta[i];
        return;
    }
    E8_INDEPENDENT
    for (size_t i = 0; i < n; i++) y[i] = (x[i] - mean) * r;
    for (size_t i = 0; p->gamma && i < n; i++) y[i] *= p->gamma[i];
    for (size_t i = 0; p->beta && i < n; i++) y[i] += p->beta[i];
}

enum { SQUARES = 65536 / 2 }; /* so many squares of codes fit in int32 */

E8_ROW void layer_norm_s8(const int8_t *x, int8_t *y, size_t n, const struct e8_layer_norm *p)
{
    int64_t squares = 0;
    int32_t sum = 0, length = (int32_t)n, zero = p->zero_point;
    for (size_t i = 0; i < n; i += SQUARES) {
        size_t end = n - i < SQUARES ? n : i + SQUARES;
        int32_t part = 0;
        for (size_t k = i; k < end; k++) {
            int16_t q = x[k];
            part += q * q;
            sum += q;
        }
        squares += part;
    }
    float count = (float)length, spread = (float)(length * squares - (int64_t)sum * sum);
    float root = sqrt_float((p->scale * p->scale) * spread + p->epsilon * (count * count));
    float r = root > 0.0f ? p->scale / root : 0.0f;
    const float *gamma = p->gamma, *beta = p->beta; /* a store to y might change p, as far as the compiler knows */
    E8_INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        float value = ((float)(length * x[i] - sum) * r) * gamma[i] + beta[i];
        y[i] = (int8_t)requantise(value, zero, -128, 127);
    }
}

E8_ROW void requantise_channels(const int32_t *x, int8_t *y, size_t count, const float *multiplier, const struct e8_requant_row *p)
{
    int32_t zero = p->zero_point, low = p->low, high = p->high;
    for (size_t c = 0; c < count; c++) y[c] = (int8_t)requantise((float)x[c] * multiplier[c], zero, low, high);
}

/* y[o][c] = w[o][0] * x[i[o][0]][c] + w[o][1] * x[i[o][1]][c] + ..., o below `out`, c below `channels`. */
E8_ROW void resize_columns_f32(const float *x, float *y, const struct e8_resize *p)
{
    size_t channels = p->channels;
    for (size_t o = 0; o < p->out; o++, y += channels) {
        const float *w = p->weight + o * p->taps, *a = x + p->offset[o * p->taps], *b = x + p->offset[o * p->taps + 1];
        float w0 = w[0], w1 = w[1];
        for (size_t c = 0; c < channels; c++) y[c] = w0 * a[c] + w1 * b[c];
        for (size_t t = 2; t < p->taps; t++) {
            const float *more = x + p->offset[o * p->taps + t];
            float wt = w[t];
            for (size_t c = 0; c < channels; c++) y[c] += wt * more[c];
        }
    }
}

E8_ROW void resize_rows_f32(const float *const *rows, const float *w, size_t taps, float *y, size_t count)
{
    const float *a = rows[0], *b = rows[1];
    float w0 = w[0], w1 = w[1];
    for (size_t i = 0; i < count; i++) y[i] = w0 * a[i] + w1 * b[i];
    for (size_t t = 2; t < taps; t++) {
        const float *more = rows[t];
        float wt = w[t];
        for (size_t i = 0; i < count; i++) y[i] += wt * more[i];
    }
}

/* The same with codes and two taps: products of 11-bit weights and 9-bit differences. */
E8_ROW void resize_columns_s8(const int8_t *x, int32_t *y, const struct e8_resize *p)
{
    size_t channels = p->channels;
    int16_t zero = (int16_t)p->zero_point;
    for (size_t o = 0; o < p->out; o++, y += channels) {
        const int8_t *a = x + p->offset[2 * o], *b = x + p->offset[2 * o + 1];
        int16_t w0 = p->fixed[2 * o], w1 = p->fixed[2 * o + 1];
        for (size_t c = 0; c < channels; c++) y[c] = w0 * (int16_t)(a[c] - zero) + w1 * (int16_t)(b[c] - zero);
    }
}

E8_ROW void resize_rows_s8(const int32_t *a, const int32_t *b, int32_t w0, int32_t w1, int8_t *y, size_t count, int32_t zero)
{
    for (size_t i = 0; i < count; i++) {
        int32_t value = ((w0 * a[i] + w1 * b[i] + (1 << 21)) >> 22) + zero;
        value = value < -128 ? -128 : value;
        y[i] = (int8_t)(value > 127 ? 127 : value);
    }
}

/* y[c] = the largest a[t][c], or with a divisor their sum / divisor, t ascending. */
E8_ROW_INLINE void pool_lanes(const float *const *a, size_t taps, size_t c, size_t lanes, float divisor, float *y)
{
    float acc[POOL_LANES];
    for (size_t k = 0; k < lanes; k++) acc[k] = divisor > 0.0f ? 0.0f : -__builtin_inff();
    if (divisor > 0.0f) {
        for (size_t t = 0; t < taps; t++)
            for (size_t k = 0; k < lanes; k++) acc[k] += a[t][c + k];
        for (size_t k = 0; k < lanes; k++) y[c + k] = acc[k] / divisor;
        return;
    }
    for (size_t t = 0; t < taps; t++)
        for (size_t k = 0; k < lanes; k++) acc[k] = a[t][c + k] > acc[k] ? a[t][c + k] : acc[k];
    for (size_t k = 0; k < lanes; k++) y[c + k] = acc[k];
}

E8_ROW void pool_f32(const float *const *a, size_t taps, size_t count, float divisor, float *y)
{
    size_t c = 0;
    for (; c + POOL_LANES <= count; c += POOL_LANES) pool_lanes(a, taps, c, POOL_LANES, divisor, y);
    for (; c < count; c++) pool_lanes(a, taps, c, 1, divisor, y);
}

E8_ROW void row_kernels(struct e8_kernels *k)
{
    k->softmax_f32 = E8_HAS(Softmax, E8_FORM_FLOAT | E8_FORM_INT16) ? softmax_f32 : NULL;
    k->softmax_s8 = E8_HAS(Softmax, E8_FORM_INT8) ? softmax_s8 : NULL;
    k->layer_norm_f32 = E8_HAS(LayerNorm, E8_FORM_FLOAT | E8_FORM_INT16) ? layer_norm_f32 : NULL;
    k->layer_norm_s8 = E8_HAS(LayerNorm, E8_FORM_INT8) ? layer_norm_s8 : NULL;
    k->requantise_channels = E8_HAS(ConvTranspose2D, E8_FORM_INT8) ? requantise_channels : NULL;
    k->pool_f32 = E8_HAS(Pool2D, E8_FORM_FLOAT) ? pool_f32 : NULL;
    k->resize_columns_f32 = E8_HAS(Resize, E8_FORM_FLOAT | E8_FORM_INT16) ? resize_columns_f32 : NULL;
    k->resize_rows_f32 = E8_HAS(Resize, E8_FORM_FLOAT | E8_FORM_INT16) ? resize_rows_f32 : NULL;
    k->resize_columns_s8 = E8_HAS(Resize, E8_FORM_INT8) ? resize_columns_s8 : NULL;
    k->resize_rows_s8 = E8_HAS(Resize, E8_FORM_INT8) ? resize_rows_s8 : NULL;
}

#endif
