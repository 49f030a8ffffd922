/* SPDX-License-Identifier: Apache-2.0
 *
 * int16 kernels for NEON: SMLAL of 4 widened weights with a code of the row. Sums stay exact in int32 for EXACT_SUMS products. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON)
#include "arm_neon.h"
#include "int16.h"

enum { ROWS = 2, STEPS = EXACT_SUMS / 4 };

/* acc[row] += input `k` of each row times 16 channels; a lane number must be a constant. */
#define ADD_INPUT(k)                                                                                                                       \
    do {                                                                                                                                   \
        int16x8_t low = vmovl_s8(vget_low_s8(v.val[k])), high = vmovl_s8(vget_high_s8(v.val[k]));                                          \
        E8_UNROLL                                                                                                                          \
        for (int i = 0; i < rows; i++) {                                                                                                   \
            acc[i][0] = vmlal_lane_s16(acc[i][0], vget_low_s16(low), x[i], k);                                                             \
            acc[i][1] = vmlal_lane_s16(acc[i][1], vget_high_s16(low), x[i], k);                                                            \
            acc[i][2] = vmlal_lane_s16(acc[i][2], vget_low_s16(high), x[i], k);                                                            \
            acc[i][3] = vmlal_lane_s16(acc[i][3], vget_high_s16(high), x[i], k);                                                           \
        }                                                                                                                                  \
    } while (0)

/* Up to 4 codes, the rest 0. */
E8_INLINE int16x4_t load_codes(const int16_t *p, size_t count)
{
    int16_t codes[4] = {0};
    if (count >= 4) return vld1_s16(p);
    for (size_t i = 0; i < count; i++) codes[i] = p[i];
    return vld1_s16(codes);
}

E8_INLINE void add_sums(double *out, const int32x4_t *acc, int vectors, bool add)
{
    int32_t sums[E8_NR];
    E8_UNROLL
    for (int j = 0; j < vectors; j++) vst1q_s32(sums + 4 * j, acc[j]);
    for (int c = 0; c < 4 * vectors; c++) out[c] = (add ? out[c] : 0.0) + (double)sums[c];
}

E8_INLINE void tile(const struct e8_gemm_s16 *g, int rows, size_t first, size_t n, const int8_t *w)
{
    double *out = g->out + first * g->out_stride + n;
    size_t t = 0, s = 0;
    for (bool added = false; t < g->taps; added = true) {
        int32x4_t acc[ROWS][4];
        E8_UNROLL
        for (int i = 0; i < rows; i++) {
            E8_UNROLL
            for (int j = 0; j < 4; j++) acc[i][j] = vdupq_n_s32(0);
        }
        for (int step = 0; step < STEPS && t < g->taps; step++, w += 4 * E8_NR) {
            const void *const *a = g->a + t * g->a_stride + first;
            const int8x16x4_t v = vld4q_s8(w);
            int16x4_t x[ROWS];
            E8_UNROLL
            for (int i = 0; i < rows; i++) x[i] = load_codes((const int16_t *)a[i] + s, g->segment - s);
            ADD_INPUT(0);
            ADD_INPUT(1);
            ADD_INPUT(2);
            ADD_INPUT(3);
            s += 4;
            if (s >= g->segment) s = 0, t++;
        }
        for (int i = 0; i < rows; i++) add_sums(out + (size_t)i * g->out_stride, acc[i], 4, added);
    }
}

static void gemm_s16(const struct e8_gemm_s16 *g)
{
    size_t bytes = (g->taps * g->segment + 3) / 4 * 4 * E8_NR;
    for (size_t n = 0; n < g->n; n += E8_NR) {
        const int8_t *w = g->w + n / E8_NR * bytes;
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) tile(g, ROWS, i, n, w);
        if (i < g->m) tile(g, 1, i, n, w);
    }
}

static void depthwise_s16(const struct e8_depthwise_s16 *g)
{
    struct e8_depthwise_s16 rest = *g;
    size_t c = g->first;
    for (; c + 8 <= g->channels; c += 8) {
        for (size_t first = 0; first < g->taps; first += EXACT_SUMS) {
            size_t end = g->taps - first < EXACT_SUMS ? g->taps : first + EXACT_SUMS;
            int32x4_t acc[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
            for (size_t t = first; t < end; t++) {
                int16x8_t a = vld1q_s16((const int16_t *)g->a[t * g->a_stride] + c), w = vmovl_s8(vld1_s8(g->w + t * g->w_stride + c));
                acc[0] = vmlal_s16(acc[0], vget_low_s16(a), vget_low_s16(w));
                acc[1] = vmlal_s16(acc[1], vget_high_s16(a), vget_high_s16(w));
            }
            add_sums(g->out + c, acc, 2, first > 0);
        }
    }
    rest.first = c;
    e8_depthwise_s16(&rest);
}

void e8_init_neon_int16(struct e8_kernels *k)
{
    k->gemm_s16 = gemm_s16;
    k->depthwise_s16 = depthwise_s16;
}
#endif
