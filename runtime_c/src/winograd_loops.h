/* SPDX-License-Identifier: Apache-2.0
 *
 * The transforms of the Winograd convolution F(2x2, 3x3): a tile of 2x2 outputs from 4x4 inputs with 16 products per input channel
 * instead of 36. With d the inputs, g the 3x3 weights and * the product of elements, the tile is
 *     A^T [ sum over channels of (G g G^T) * (B^T d B) ] A
 *           | 1  0 -1  0 |         | 1    0    0  |
 *     B^T = | 0  1  1  0 |     G = | 1/2  1/2  1/2|     A^T = | 1  1  1  0 |
 *           | 0 -1  1  0 |         | 1/2 -1/2  1/2|           | 0  1 -1 -1 |
 *           | 0  1  0 -1 |         | 0    0    1  |
 * The sums over channels are matrix products, one per point of the 4x4; here is the rest. Every operation is rounded on its own, in
 * the order written, so all levels give the same bits. The text is compiled once for the base architecture
 * (reference_winograd.c) and once for each level that gains from it, with E8_ROW_TARGET. */
#ifndef E8_WINOGRAD_LOOPS_H
#define E8_WINOGRAD_LOOPS_H

#include "kernels/kernel.h"
#include "kernels/requant.h"
#include "math.h"

#ifndef E8_ROW_TARGET
#define E8_ROW_TARGET
#endif
#define E8_ROW E8_ROW_TARGET static
#define E8_ROW_INLINE E8_ROW_TARGET static inline __attribute__((always_inline))

/* Counts are multiples of 8. Loops over 8 elements become vector code without a rest. */
enum { LANES = 8 };

/* Before a loop that has to be gone for the one around it to become vector code. */
#if defined(__OPTIMIZE_SIZE__)
#define E8_WHOLE
#elif defined(__clang__)
#define E8_WHOLE _Pragma("clang loop unroll(full)")
#else
#define E8_WHOLE _Pragma("GCC unroll 4")
#endif

/* B^T of four values. */
E8_ROW_INLINE void input_line(const float d[4], float t[4])
{
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[1] - d[3];
}

/* v[p * stride + c] for point p of the 4x4: B^T d B of channel c, where d[r][s] = pixels[4 * r + s][c]. */
E8_ROW_INLINE void input_channel(const float *const pixels[16], float *v, size_t stride, size_t c)
{
    float t[4][4], u[4];
    E8_WHOLE
    for (size_t s = 0; s < 4; s++) {
        float d[4] = {pixels[s][c], pixels[4 + s][c], pixels[8 + s][c], pixels[12 + s][c]};
        input_line(d, u);
        E8_WHOLE
        for (size_t r = 0; r < 4; r++) t[r][s] = u[r];
    }
    E8_WHOLE
    for (size_t r = 0; r < 4; r++) {
        input_line(t[r], u);
        E8_WHOLE
        for (size_t s = 0; s < 4; s++) v[(4 * r + s) * stride + c] = u[s];
    }
}

E8_ROW void winograd_input(const float *const pixels[16], float *v, size_t stride, size_t channels)
{
    for (size_t c = 0; c < channels; c += LANES) {
        E8_INDEPENDENT
        for (size_t i = c; i < c + LANES; i++) input_channel(pixels, v, stride, i);
    }
}

/* G of three values. */
E8_ROW_INLINE void weight_line(const float g[3], float t[4])
{
    float ends = g[0] + g[2];
    t[0] = g[0];
    t[1] = 0.5f * (ends + g[1]);
    t[2] = 0.5f * (ends - g[1]);
    t[3] = g[2];
}

/* Row `row` of G g G^T: u[p * stride + i] for its points p < 4, of the weights g[r][s] = w[(3 * r + s) * count + i], i < count. */
E8_ROW_INLINE void weight_element(const float *w, float *u, size_t stride, size_t count, size_t row, size_t i)
{
    float g[3], line[4];
    E8_WHOLE
    for (size_t s = 0; s < 3; s++) {
        const float column[3] = {w[s * count + i], w[(3 + s) * count + i], w[(6 + s) * count + i]};
        weight_line(column, line);
        g[s] = line[row];
    }
    weight_line(g, line);
    E8_WHOLE
    for (size_t s = 0; s < 4; s++) u[s * stride + i] = line[s];
}

E8_ROW_INLINE void weight_row(const float *w, float *u, size_t stride, size_t count, size_t row)
{
    for (size_t c = 0; c < count; c += LANES) {
        E8_INDEPENDENT
        for (size_t i = c; i < c + LANES; i++) weight_element(w, u, stride, count, row, i);
    }
}

E8_ROW void winograd_weights(const float *w, float *u, size_t stride, size_t count, size_t row)
{
    switch (row) {
    case 0: weight_row(w, u, stride, count, 0); return;
    case 1: weight_row(w, u, stride, count, 1); return;
    case 2: weight_row(w, u, stride, count, 2); return;
    default: weight_row(w, u, stride, count, 3);
    }
}

/* A^T of four values. */
E8_ROW_INLINE void output_line(const float m[4], float t[2])
{
    t[0] = (m[0] + m[1]) + m[2];
    t[1] = (m[1] - m[2]) - m[3];
}

/* out[i][c] = clamp(Y[i / 2][i % 2] + residual[i][c]) for channel c, Y = A^T m A of the sums m[r][s] = m[(4 * r + s) * stride + c]. */
E8_ROW_INLINE void output_channel(const struct e8_winograd_output *p, size_t c)
{
    const float *m = p->m;
    float t[2][4], pair[2];
    E8_WHOLE
    for (size_t s = 0; s < 4; s++) {
        float line[4] = {m[s * p->stride + c], m[(4 + s) * p->stride + c], m[(8 + s) * p->stride + c], m[(12 + s) * p->stride + c]};
        output_line(line, pair);
        t[0][s] = pair[0];
        t[1][s] = pair[1];
    }
    E8_WHOLE
    for (size_t r = 0; r < 2; r++) {
        output_line(t[r], pair);
        p->out[2 * r][c] = clamp_float(pair[0] + p->residual[2 * r][c], p->low, p->high);
        p->out[2 * r + 1][c] = clamp_float(pair[1] + p->residual[2 * r + 1][c], p->low, p->high);
    }
}

E8_ROW void winograd_output(const struct e8_winograd_output *p)
{
    const struct e8_winograd_output g = *p; /* a store might change p, as far as the compiler knows */
    for (size_t c = 0; c < g.channels; c += LANES) {
        E8_INDEPENDENT
        for (size_t i = c; i < c + LANES; i++) output_channel(&g, i);
    }
}

E8_ROW void winograd_kernels(struct e8_kernels *k)
{
    k->winograd_input = winograd_input;
    k->winograd_weights = winograd_weights;
    k->winograd_output = winograd_output;
}

#endif
