/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 matrix kernels for AVX2. gemm_s8 for few rows (x86_avx2_bounded.c has the one for many) multiplies |a| (0 to 128) with w carrying
 * the sign of a: vpmaddubsw then adds pairs of at most 2 * 128 * 127 = 32512, which int16 holds. It needs weights above -128. So does
 * gemm_s8s32 where it has such; any other bytes it widens to int16 on both sides, for vpmaddwd. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "x86_avx2.h"

enum { ROWS = 4 };

/* A row by pointer. */
struct source {
    const void *const *a;
    size_t a_stride, taps, segment;
};

/* acc += one word of each row times 16 channels. */
AVX2_INLINE void add_word(__m256i acc[ROWS][2], int rows, int vectors, const int32_t word[ROWS], const int8_t *w)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i v[2];
    E8_UNROLL
    for (int j = 0; j < vectors; j++) v[j] = _mm256_load_si256((const __m256i *)(const void *)(w + 32 * j));
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        __m256i x = _mm256_set1_epi32(word[i]), size = _mm256_abs_epi8(x);
        E8_UNROLL
        for (int j = 0; j < vectors; j++) {
            __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(v[j], x));
            acc[i][j] = _mm256_add_epi32(acc[i][j], _mm256_madd_epi16(pairs, ones));
        }
    }
}

/* acc += `rows` rows from `first` times one block. */
AVX2_INLINE void multiply(__m256i acc[ROWS][2], int rows, int vectors, const struct source *g, size_t first, const int8_t *w)
{
    for (size_t t = 0; t < g->taps; t++) {
        const int8_t *row[ROWS];
        int32_t word[ROWS];
        E8_UNROLL
        for (int i = 0; i < rows; i++) row[i] = g->a[t * g->a_stride + first + (size_t)i];
        size_t s = 0;
        for (; s + 4 <= g->segment; s += 4, w += 4 * E8_NR) {
            E8_UNROLL
            for (int i = 0; i < rows; i++) memcpy(&word[i], row[i] + s, 4);
            add_word(acc, rows, vectors, word, w);
        }
        if (s == g->segment) continue;
        E8_UNROLL
        for (int i = 0; i < rows; i++) word[i] = load_word(row[i] + s, g->segment - s);
        add_word(acc, rows, vectors, word, w);
        w += 4 * E8_NR;
    }
}

AVX2_INLINE void store_sums(int32_t *out, __m256i a, __m256i b, size_t columns)
{
    int32_t sums[E8_NR], *to = columns == E8_NR ? out : sums;
    _mm256_storeu_si256((__m256i *)(void *)to, a);
    _mm256_storeu_si256((__m256i *)(void *)(to + 8), b);
    if (columns < E8_NR) memcpy(out, sums, columns * sizeof *out);
}

/* A product with weights: to codes by q, or to sums. */
struct product {
    const struct e8_gemm_s8 *g;
    const struct e8_requant *q;
    struct requant_avx2 r;
    int32_t *sums; /* sums[i * g->out_stride + c], or NULL: codes */
};

/* `rows` rows from `first` of one block of `columns` channels from n, `vectors` of 8 of them. */
AVX2_INLINE void tile_s8(const struct product *p, int rows, int vectors, size_t first, size_t n, size_t columns, const int8_t *w)
{
    const struct e8_gemm_s8 *g = p->g;
    const struct e8_requant *q = p->q;
    struct source s = {g->a, g->a_stride, g->taps, g->segment};
    __m256i acc[ROWS][2];
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        acc[i][0] = _mm256_loadu_si256((const __m256i *)(const void *)(q->init + n));
        acc[i][1] = _mm256_loadu_si256((const __m256i *)(const void *)(q->init + n + 8));
    }
    multiply(acc, rows, vectors, &s, first, w);
    if (p->sums) {
        E8_UNROLL
        for (int i = 0; i < rows; i++) store_sums(p->sums + (first + (size_t)i) * g->out_stride + n, acc[i][0], acc[i][1], columns);
        return;
    }
    const int8_t *residual = g->residual ? g->residual + first * g->residual_stride + n : NULL;
    finish_rows(&p->r, q, acc, rows, n, columns, residual, g->residual_stride, g->out + first * g->out_stride + n, g->out_stride);
}

AVX2 __attribute__((noinline)) static void run_product(const struct product *p)
{
    const struct e8_gemm_s8 *g = p->g;
    size_t bytes = (g->taps * g->segment + 3) / 4 * 4 * E8_NR;
    for (size_t n = 0; n < g->n; n += E8_NR) {
        const int8_t *w = g->w + n / E8_NR * bytes;
        size_t columns = g->n - n < E8_NR ? g->n - n : E8_NR, i = 0;
        if (columns > 8) {
            for (; i + 4 <= g->m; i += 4) tile_s8(p, 4, 2, i, n, columns, w);
            for (; i < g->m; i++) tile_s8(p, 1, 2, i, n, columns, w);
        } else {
            for (; i + 4 <= g->m; i += 4) tile_s8(p, 4, 1, i, n, columns, w);
            for (; i < g->m; i++) tile_s8(p, 1, 1, i, n, columns, w);
        }
    }
}

AVX2 static void gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    if (g->limits) {
        e8_avx2_gemm_bounded(g, q);
        return;
    }
    struct product p = {g, q, requant_constants(q), NULL};
    run_product(&p);
}

/* Partial sums of 4 channels in a vector: [c][k01, k23]. */
AVX2_INLINE void add_wide_word(__m256i acc[2][4], int rows, const int32_t word[2], const int8_t *w)
{
    __m256i x[2];
    E8_UNROLL
    for (int i = 0; i < rows; i++) x[i] = _mm256_cvtepi8_epi16(_mm_set1_epi32(word[i]));
    E8_UNROLL
    for (int j = 0; j < 4; j++) {
        __m256i v = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(const void *)(w + 16 * j)));
        E8_UNROLL
        for (int i = 0; i < rows; i++) acc[i][j] = _mm256_add_epi32(acc[i][j], _mm256_madd_epi16(x[i], v));
    }
}

/* Two vectors of partial sums to 8 sums. */
AVX2_INLINE __m256i join_partial(__m256i a, __m256i b)
{
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xD8);
}

AVX2_INLINE void tile_s8s32(const struct e8_gemm_s8s32 *g, int rows, size_t first, size_t n, size_t columns, const int8_t *w)
{
    __m256i acc[2][4];
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        E8_UNROLL
        for (int j = 0; j < 4; j++) acc[i][j] = _mm256_setzero_si256();
    }
    for (size_t t = 0; t < g->taps; t++) {
        const int8_t *row[2];
        int32_t word[2];
        E8_UNROLL
        for (int i = 0; i < rows; i++) row[i] = g->a[t * g->a_stride + first + (size_t)i];
        for (size_t s = 0; s < g->segment; s += 4, w += 4 * E8_NR) {
            E8_UNROLL
            for (int i = 0; i < rows; i++) word[i] = load_word(row[i] + s, g->segment - s);
            add_wide_word(acc, rows, word, w);
        }
    }
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        __m256i a = join_partial(acc[i][0], acc[i][1]), b = join_partial(acc[i][2], acc[i][3]);
        if (g->init) {
            a = _mm256_add_epi32(a, _mm256_loadu_si256((const __m256i *)(const void *)(g->init + n)));
            b = _mm256_add_epi32(b, _mm256_loadu_si256((const __m256i *)(const void *)(g->init + n + 8)));
        }
        store_sums(g->out + (first + (size_t)i) * g->out_stride + n, a, b, columns);
    }
}

/* Sums that start from 0 are those of `init` when that is one block of zeros. */
AVX2 static void multiply_weights(const struct e8_gemm_s8s32 *g)
{
    static const int32_t zeros[E8_NR];
    size_t bytes = (g->taps * g->segment + 3) / 4 * 4 * E8_NR;
    struct e8_gemm_s8 s = {
        .m = g->m, .taps = g->taps, .segment = g->segment, .a = g->a, .a_stride = g->a_stride, .out_stride = g->out_stride};
    for (size_t n = 0; n < g->n; n += E8_NR) {
        struct e8_requant q = {.init = g->init ? g->init + n : zeros};
        s.n = g->n - n < E8_NR ? g->n - n : E8_NR;
        s.w = g->w + n / E8_NR * bytes;
        struct product p = {.g = &s, .q = &q, .sums = g->out + n};
        run_product(&p);
    }
}

AVX2 static void gemm_s8s32(const struct e8_gemm_s8s32 *g)
{
    if (g->weights) {
        multiply_weights(g);
        return;
    }
    size_t bytes = (g->taps * g->segment + 3) / 4 * 4 * E8_NR;
    for (size_t n = 0; n < g->n; n += E8_NR) {
        const int8_t *w = g->w + n / E8_NR * bytes;
        size_t columns = g->n - n < E8_NR ? g->n - n : E8_NR, i = 0;
        for (; i + 2 <= g->m; i += 2) tile_s8s32(g, 2, i, n, columns, w);
        for (; i < g->m; i++) tile_s8s32(g, 1, i, n, columns, w);
    }
}

void e8_init_avx2_gemm(struct e8_kernels *k)
{
    k->gemm_s8 = gemm_s8;
    k->gemm_s8s32 = gemm_s8s32;
}

void e8_init_avx2(struct e8_kernels *k)
{
    k->level = "avx2";
    e8_init_avx2_gemm(k);
    e8_init_avx2_bounded(k);
    e8_init_avx2_picture(k);
    e8_init_avx2_float(k);
    e8_init_avx2_decode(k);
    e8_init_avx2_depthwise(k);
    e8_init_avx2_window(k);
    e8_init_avx2_elementwise(k);
    e8_init_avx2_unary(k);
    e8_init_avx2_rows(k);
    e8_init_avx2_winograd(k);
    e8_init_avx2_int16(k);
}
#endif
