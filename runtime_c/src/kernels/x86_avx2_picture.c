/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution of pictures for AVX2. The rows of a matrix product would have to be gathered, each input once for every kernel position.
 * Here the input rows of one output row are copied as unsigned bytes, code + 128, with the padding in place; there every kernel row
 * of every output lies side by side, wherever it begins. x86_avx2_bounded.c multiplies them with the weights, as they are packed: a
 * kernel row is whole steps of 4 inputs. Others, short ones and small pictures go to x86_avx2_narrow.c. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "x86_avx2.h"
#include "x86_avx2_bounded.h"

struct picture {
    const struct e8_conv_picture *g;
    const struct e8_requant *q;
    struct e8_picture_parts at;
    size_t steps; /* of a kernel row */
    uint8_t *scratch;
};

AVX2 static void copy_codes(uint8_t *to, const int8_t *from, size_t count)
{
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)(from + i));
        _mm256_storeu_si256((__m256i *)(void *)(to + i), _mm256_xor_si256(codes, flip));
    }
    for (; i < count; i++) to[i] = (uint8_t)from[i] ^ 0x80;
}

/* The largest bytes of a line for each two steps: of 8 channels where those are whole eights, otherwise of all. */
AVX2 static void find_tops(const struct picture *p, const uint8_t *line, uint8_t *top)
{
    size_t channels = p->g->channels, period = channels % 8 == 0 ? channels / 8 : 1, count = (p->steps + 1) / 2;
    for (size_t i = 0; i < period; i++) {
        __m128i most = _mm_setzero_si128();
        for (size_t k = i; k < p->at.line / 8; k += period)
            most = _mm_max_epu8(most, _mm_loadl_epi64((const __m128i *)(const void *)(line + 8 * k)));
        most = _mm_max_epu8(most, _mm_srli_epi64(most, 32));
        most = _mm_max_epu8(most, _mm_srli_epi64(most, 16));
        most = _mm_max_epu8(most, _mm_srli_epi64(most, 8));
        top[i] = (uint8_t)_mm_extract_epi8(most, 0);
    }
    for (size_t i = period; i < count; i++) top[i] = top[i - period];
}

/* The input rows of output row y. */
static void copy_lines(const struct picture *p, int32_t y)
{
    const struct e8_conv_picture *g = p->g;
    size_t width = (size_t)g->iw * g->channels, whole = p->at.line, pad = (size_t)g->pl * g->channels;
    size_t left = pad < whole ? pad : whole, count = width < whole - left ? width : whole - left;
    int zero = g->zero + 128;
    for (int32_t ky = 0; ky < g->kh; ky++) {
        uint8_t *to = p->scratch + (size_t)ky * whole;
        int32_t iy = y * g->sh - g->pt + ky * g->dh;
        if (iy < 0 || iy >= g->ih) {
            memset(to, zero, whole);
        } else {
            memset(to, zero, left);
            copy_codes(to + left, g->x + (size_t)iy * width, count);
            memset(to + left + count, zero, whole - left - count);
        }
        find_tops(p, to, p->scratch + p->at.tops + (size_t)ky * ((p->steps + 1) / 2));
    }
}

/* One row of outputs of the block of channels from n. */
static void run_line(const struct picture *p, int32_t y, size_t n, const int8_t *w, const uint8_t *limits)
{
    const struct e8_conv_picture *g = p->g;
    const struct e8_requant *q = p->q;
    size_t at = (size_t)y * (size_t)g->ow, kh = (size_t)g->kh, steps = p->steps;
    int32_t *sums = (int32_t *)(void *)(p->scratch + p->at.sums);
    _Alignas(32) int32_t base[E8_NR];
    e8_avx2_bounded_base(base, q->init + n, q->weight_sum + n);
    struct e8_bounded t = {
        .x = p->scratch,
        .pitch = (size_t)g->sw * g->channels,
        .rows = (size_t)g->ow,
        .w = w,
        .base = base,
        .sums = sums,
        .last = true,
        .q = q,
        .n = n,
        .columns = g->n - n < E8_NR ? g->n - n : E8_NR,
        .residual = g->residual ? g->residual + at * g->n + n : NULL,
        .residual_stride = g->n,
        .out = g->out + at * g->n + n,
        .out_stride = g->n,
    };
    e8_avx2_place_lists(&t.steps, p->scratch + p->at.lists, kh * steps);
    for (size_t ky = 0; ky < kh; ky++, limits += E8_GEMM_LIMITS(4 * steps)) {
        struct e8_steps s = {
            .count = steps,
            .first = {(uint32_t)(ky * p->at.line), (uint32_t)(ky * steps * (4 * E8_NR))},
            .one = limits,
            .two = limits + steps,
            .top = p->scratch + p->at.tops + ky * ((steps + 1) / 2),
        };
        e8_avx2_list_steps(&t.steps, &s, false);
    }
    e8_avx2_bounded_rows(&t);
}

static void conv_picture_s8(const struct e8_conv_picture *g, const struct e8_requant *q)
{
    if (e8_conv_picture_is_narrow(g->ow, g->kw, (int64_t)g->channels, (int64_t)g->n)) {
        e8_avx2_conv_narrow(g, q);
        return;
    }
    struct picture p = {
        .g = g,
        .q = q,
        .at = e8_conv_picture_parts(g->ow, g->kh, g->kw, g->sw, (int64_t)g->channels, (int64_t)g->n),
        .steps = (size_t)g->kw * g->channels / 4,
        .scratch = g->scratch,
    };
    size_t kh = (size_t)g->kh, bytes = kh * p.steps * (4 * E8_NR), limit_bytes = kh * E8_GEMM_LIMITS(4 * p.steps);
    uint8_t *limits = p.scratch + p.at.limits;
    /* A kernel row is to weight_limits what a block is. */
    e8_avx2_weight_limits(g->w, (g->n + E8_NR - 1) / E8_NR * kh, 4 * p.steps, limits);
    for (int32_t y = g->first; y < g->last; y++) {
        copy_lines(&p, y);
        for (size_t n = 0; n < g->n; n += E8_NR) run_line(&p, y, n, g->w + n / E8_NR * bytes, limits + n / E8_NR * limit_bytes);
    }
}

void e8_init_avx2_picture(struct e8_kernels *k)
{
    k->conv_picture_s8 = conv_picture_s8;
    k->picture_macs = SIZE_MAX;
}
#endif
