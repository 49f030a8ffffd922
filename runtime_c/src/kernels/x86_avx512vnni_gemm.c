/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 matrix kernels for AVX-512 VNNI. vpdpbusd multiplies unsigned with signed bytes: a row's codes are made unsigned by
 * flipping their upper bit, code + 128, and the sums start at -128 times the sum of their weights. A vector holds the words of 16
 * channels; a tile is up to 8 rows by up to 4 vectors, 24 sums in registers. Its
 * inner loop must keep them there: tests/native/test_avx512.py looks at the compiled code. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX512VNNI)
#include "x86_avx512.h"

enum { ROWS = 8, VECTORS = 4 };

/* Both matrix kernels: `q` NULL for raw sums. `bytes`: from one block of 16 channels to the next. */
struct product {
    size_t m, n, taps, segment;
    const void *const *a;
    size_t a_stride;
    const int8_t *w;
    size_t bytes;
    const int32_t *init, *weight_sum;
    const struct e8_requant *q;
    const int8_t *residual;
    size_t residual_stride;
    void *out;
    size_t out_stride;
    sums *sums; /* of a tile, [rows][vectors] */
};

/* acc += one word of each row times `vectors` blocks of channels. */
AVX512_INLINE void add_word(sums acc[ROWS][VECTORS], int rows, int vectors, const sums x[ROWS], const int8_t *w, size_t bytes)
{
    sums v[VECTORS];
    E8_UNROLL
    for (int j = 0; j < vectors; j++) v[j] = load_sums(w + (size_t)j * bytes);
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        E8_UNROLL
        for (int j = 0; j < vectors; j++) acc[i][j] = add_products(acc[i][j], x[i], v[j]);
    }
}

/* acc += `rows` rows from `first` times `vectors` blocks from w. */
AVX512_INLINE void multiply(sums acc[ROWS][VECTORS], int rows, int vectors, const struct product *g, size_t first, const int8_t *w)
{
    const sums flip = all((int32_t)0x80808080u);
    size_t bytes = g->bytes;
    for (size_t t = 0; t < g->taps; t++) {
        const int8_t *row[ROWS];
        sums x[ROWS];
        E8_UNROLL
        for (int i = 0; i < rows; i++) row[i] = g->a[t * g->a_stride + first + (size_t)i];
        size_t s = 0, whole = g->segment / 4 * 4;
        for (; s < whole; s += 4, w += 4 * E8_NR) {
            sums v[VECTORS];
            E8_UNROLL
            for (int j = 0; j < vectors; j++) v[j] = load_sums(w + (size_t)j * bytes);
            E8_UNROLL
            for (int i = 0; i < rows; i++) {
                sums word = flipped_word(row[i] + s, flip);
                E8_UNROLL
                for (int j = 0; j < vectors; j++) acc[i][j] = add_products(acc[i][j], word, v[j]);
            }
        }
        if (s == g->segment) continue;
        E8_UNROLL
        for (int i = 0; i < rows; i++) x[i] = all(load_word_part(row[i] + s, g->segment - s)) ^ flip;
        add_word(acc, rows, vectors, x, w, bytes);
        w += 4 * E8_NR;
    }
}

/* Codes of one row: `columns` channels from n, from its sums. */
AVX512_INLINE void store_codes(const struct product *g, const struct requant_avx512 *r, const sums *acc, size_t at, size_t n,
                               size_t columns)
{
    const struct e8_requant *q = g->q;
    const int8_t *residual = g->residual ? g->residual + at * g->residual_stride + n : NULL;
    int8_t *out = (int8_t *)g->out + at * g->out_stride + n;
    __m512i code[VECTORS];
    for (size_t j = 0; j < VECTORS; j++) code[j] = _mm512_setzero_si512();
    for (size_t j = 0; j * E8_NR < columns; j++) {
        size_t c = j * E8_NR, count = columns - c < E8_NR ? columns - c : E8_NR;
        sums sum = acc[j];
        if (residual) sum = add_residual(r, q, sum, n + c, load_bytes16(residual + c, count));
        code[j] = requant16(r, q, sum, n + c);
    }
    store_bytes(out, narrow64(r, code[0], code[1], code[2], code[3]), columns);
    for (size_t c = 0; q->table && c < columns; c++) out[c] = q->table[out[c] + 128];
}

/* The sums of a tile to where they belong. One function for all tiles: the way through memory costs less than its code would. */
AVX512 __attribute__((noinline)) static void finish(const struct product *g, const struct requant_avx512 *r, size_t rows, size_t vectors,
                                                    size_t first, size_t n)
{
    const sums *acc = g->sums;
    size_t columns = g->n - n < E8_NR * vectors ? g->n - n : E8_NR * vectors;
    for (size_t i = 0; i < rows; i++, acc += vectors) {
        if (g->q) {
            store_codes(g, r, acc, first + i, n, columns);
            continue;
        }
        int32_t *out = (int32_t *)g->out + (first + i) * g->out_stride + n;
        for (size_t c = 0; c < columns; c += E8_NR) store_words(out + c, acc[c / E8_NR], columns - c < E8_NR ? columns - c : E8_NR);
    }
}

AVX512_INLINE void tile(const struct product *g, const struct requant_avx512 *r, int rows, int vectors, size_t first, size_t n)
{
    sums acc[ROWS][VECTORS];
    E8_UNROLL
    for (int j = 0; j < vectors; j++) {
        size_t c = n + 16 * (size_t)j;
        sums start = (sums)_mm512_sub_epi32(g->init ? (__m512i)load_sums(g->init + c) : _mm512_setzero_si512(),
                                            _mm512_slli_epi32((__m512i)load_sums(g->weight_sum + c), 7));
        E8_UNROLL
        for (int i = 0; i < rows; i++) acc[i][j] = start;
    }
    multiply(acc, rows, vectors, g, first, g->w + n / E8_NR * g->bytes);
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        E8_UNROLL
        for (int j = 0; j < vectors; j++) g->sums[i * vectors + j] = acc[i][j];
    }
    finish(g, r, (size_t)rows, (size_t)vectors, first, n);
}

/* Few forms, because each is a kilobyte or two of code. */
#define TILES(X) X(6, 4) X(4, 4) X(1, 4) X(8, 2) X(1, 2) X(8, 1) X(1, 1)
#define TILE(rows, vectors)                                                                                                                \
    AVX512 static void tile_##rows##x##vectors(const struct product *g, const struct requant_avx512 *r, size_t first, size_t n)            \
    {                                                                                                                                      \
        tile(g, r, rows, vectors, first, n);                                                                                               \
    }
TILES(TILE)

/* All rows of 64 channels from n: 8 rows are two tiles of 4, not 6 + 1 + 1. */
static void run_wide(const struct product *g, const struct requant_avx512 *r, size_t n)
{
    size_t i = 0;
    for (; g->m - i >= 6 && g->m - i != 8; i += 6) tile_6x4(g, r, i, n);
    for (; g->m - i >= 4; i += 4) tile_4x4(g, r, i, n);
    for (; i < g->m; i++) tile_1x4(g, r, i, n);
}

static void run_product(const struct product *g, const struct requant_avx512 *r)
{
    size_t n = 0;
    for (; g->n - n > 3 * E8_NR; n += g->n - n < 4 * E8_NR ? g->n - n : 4 * E8_NR) run_wide(g, r, n);
    for (; g->n - n > E8_NR; n += g->n - n < 2 * E8_NR ? g->n - n : 2 * E8_NR) {
        size_t i = 0;
        for (; g->m - i >= 8; i += 8) tile_8x2(g, r, i, n);
        for (; i < g->m; i++) tile_1x2(g, r, i, n);
    }
    if (n == g->n) return;
    size_t i = 0;
    for (; g->m - i >= 8; i += 8) tile_8x1(g, r, i, n);
    for (; i < g->m; i++) tile_1x1(g, r, i, n);
}

static size_t block_bytes(size_t taps, size_t segment)
{
    return (taps * segment + 3) / 4 * 4 * E8_NR;
}

AVX512 static void gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    struct requant_avx512 r = requant_constants(q);
    struct product p = {
        .m = g->m,
        .n = g->n,
        .taps = g->taps,
        .segment = g->segment,
        .a = g->a,
        .a_stride = g->a_stride,
        .w = g->w,
        .bytes = block_bytes(g->taps, g->segment),
        .init = q->init,
        .weight_sum = q->weight_sum,
        .q = q,
        .residual = g->residual,
        .residual_stride = g->residual_stride,
        .out = g->out,
        .out_stride = g->out_stride,
        .sums = g->scratch,
    };
    run_product(&p, &r);
}

AVX512 static void gemm_s8s32(const struct e8_gemm_s8s32 *g)
{
    struct product p = {
        .m = g->m,
        .n = g->n,
        .taps = g->taps,
        .segment = g->segment,
        .a = g->a,
        .a_stride = g->a_stride,
        .w = g->w,
        .bytes = block_bytes(g->taps, g->segment),
        .init = g->init,
        .weight_sum = g->weight_sum,
        .out = g->out,
        .out_stride = g->out_stride,
        .sums = g->scratch,
    };
    run_product(&p, NULL);
}

void e8_init_avx512vnni(struct e8_kernels *k)
{
    k->level = "avx512vnni";
    k->gemm_s8 = gemm_s8;
    k->weight_limits = NULL; /* nothing saturates here */
    k->gemm_s8s32 = gemm_s8s32;
    k->picture_macs = 2048;
}
#endif
