/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm_s8 for many rows on AVX2 without VNNI: the rows are copied, up to 48 at a time, as x = a - lo >= 0, where lo[k] is the least
 * code of input k in these rows, and multiplied by x86_avx2_bounded.c. lo times the weights is computed once, like another row;
 * where all lo of 32 inputs lie near -128, as behind a ReLU, it is taken as -128 for them. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "x86_avx2.h"
#include "x86_avx2_bounded.h"

enum {
    MOST_ROWS = 48,
    CHUNK = 32,                /* inputs that are looked at together */
    FLAT = 24,                 /* least codes + 128 below it count as 0 */
    GROUP = E8_GEMM_GROUP / 4, /* steps between visits to the sums of a tile: their weights fit the first-level cache */
};

struct panel {
    uint8_t *lo;     /* [pitch]: codes + 128 */
    uint8_t *x;      /* [rows][pitch] */
    int32_t *sums;   /* [rows][16] */
    uint8_t *top[2]; /* [pitch / 8]: largest x of 8 inputs, and largest lo */
    void *lists;
    size_t pitch, chunks, first, rows, most;
    bool flat; /* lo is 0 throughout */
};

AVX2_INLINE __m256i load256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* A row to the panel: all its segments, or the rest of its only one; up to the end of the last chunk -128 in every row. */
static void copy_row(const struct e8_gemm_s8 *g, size_t row, size_t done, struct panel *p)
{
    uint8_t *to = p->x + (row - p->first) * p->pitch, *at = to + done;
    for (size_t t = 0; t < g->taps; t++, at += g->segment - done)
        memcpy(at, (const uint8_t *)g->a[t * g->a_stride + row] + done, g->segment - done);
    memset(at, 0x80, p->chunks * CHUNK - (size_t)(at - to));
}

/* The largest of each 8 bytes. */
AVX2_INLINE void store_tops(uint8_t *to, __m256i v)
{
    v = _mm256_max_epu8(v, _mm256_srli_epi64(v, 32));
    v = _mm256_max_epu8(v, _mm256_srli_epi64(v, 16));
    v = _mm256_max_epu8(v, _mm256_srli_epi64(v, 8));
    to[0] = (uint8_t)_mm256_extract_epi8(v, 0);
    to[1] = (uint8_t)_mm256_extract_epi8(v, 8);
    to[2] = (uint8_t)_mm256_extract_epi8(v, 16);
    to[3] = (uint8_t)_mm256_extract_epi8(v, 24);
}

/* Where the codes of a chunk are: whole ones in rows, the first `words` words of a row's last one (the rest is -128 then), or already in
 * the panel. */
enum where { IN_ROWS, IN_PART, IN_PANEL };

AVX2_INLINE __m256i load_codes(enum where where, const uint8_t *from, __m256i words, __m256i rest)
{
    return where == IN_PART ? _mm256_or_si256(_mm256_maskload_epi32((const int *)(const void *)from, words), rest) : load256(from);
}

/* Chunk c of all rows: find lo and the largest x, then subtract. */
AVX2_INLINE void bound_chunk(const uint8_t *const from[MOST_ROWS], struct panel *p, size_t c, enum where where, size_t count)
{
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    __m256i words = _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    __m256i rest = _mm256_andnot_si256(words, flip), lo = _mm256_set1_epi8(127), hi = flip;
    for (size_t i = 0; i < p->rows; i++) {
        const uint8_t *source = (where == IN_PANEL ? p->x + i * p->pitch : from[i]) + c * CHUNK;
        __m256i codes = load_codes(where, source, words, rest);
        lo = _mm256_min_epi8(lo, codes);
        hi = _mm256_max_epi8(hi, codes);
    }
    __m256i least = _mm256_xor_si256(lo, flip), flat = _mm256_subs_epu8(least, _mm256_set1_epi8(FLAT));
    if (_mm256_testz_si256(flat, flat)) {
        lo = flip;
        least = _mm256_setzero_si256();
    } else {
        p->flat = false;
    }
    _mm256_store_si256((__m256i *)(void *)(p->lo + c * CHUNK), least);
    store_tops(p->top[0] + c * (CHUNK / 8), _mm256_sub_epi8(hi, lo));
    store_tops(p->top[1] + c * (CHUNK / 8), least);
    for (size_t i = 0; i < p->rows; i++) {
        uint8_t *to = p->x + i * p->pitch + c * CHUNK;
        const uint8_t *source = where == IN_PANEL ? to : from[i] + c * CHUNK;
        _mm256_storeu_si256((__m256i *)(void *)to, _mm256_sub_epi8(load_codes(where, source, words, rest), lo));
    }
}

/* Copy `rows` rows from `first`. A plain matrix is read where it lies, unless its rows end within a word. */
AVX2 static void fill_panel(const struct e8_gemm_s8 *g, size_t first, size_t rows, struct panel *p)
{
    size_t k = g->taps * g->segment, whole = g->taps == 1 ? k / CHUNK : 0, c = 0;
    const uint8_t *from[MOST_ROWS];
    p->first = first;
    p->rows = rows;
    p->flat = true;
    for (size_t i = 0; i < rows; i++) from[i] = g->a[first + i];
    for (; c < whole; c++) bound_chunk(from, p, c, IN_ROWS, 0);
    if (c < p->chunks && g->taps == 1 && k % 4 == 0) {
        bound_chunk(from, p, c, IN_PART, k % CHUNK / 4);
        return;
    }
    if (c == p->chunks) return;
    for (size_t i = 0; i < rows; i++) copy_row(g, first + i, whole * CHUNK, p);
    for (; c < p->chunks; c++) bound_chunk(from, p, c, IN_PANEL, 0);
}

/* Steps [begin, end) of a block, of x or of lo. */
static void list_group(struct e8_bounded *t, const struct panel *p, size_t begin, size_t end, size_t steps, const uint8_t *limits, bool lo)
{
    struct e8_steps s = {
        .count = end - begin,
        .first = {4 * (uint32_t)begin, 4 * E8_NR * (uint32_t)begin},
        .one = limits + begin,
        .two = limits + steps + begin / 2,
        .top = p->top[lo] + begin / 2,
    };
    e8_avx2_place_lists(&t->steps, p->lists, end - begin);
    e8_avx2_list_steps(&t->steps, &s, lo);
}

/* All rows of a panel times one block: group by group, so that the weights of one stay in the cache. */
static void run_block(struct e8_bounded *t, const struct panel *p, size_t steps, const uint8_t *limits)
{
    int32_t *base = p->sums;
    if (!p->flat) {
        t->rows = 1;
        t->last = false;
        for (size_t begin = 0; begin < steps; begin += GROUP) {
            list_group(t, p, begin, begin + GROUP < steps ? begin + GROUP : steps, steps, limits, true);
            t->x = p->lo;
            t->sums = base;
            e8_avx2_bounded_rows(t);
            t->base = NULL;
        }
    }
    t->base = base;
    t->sums = p->sums + E8_NR;
    t->x = p->x;
    t->rows = p->rows;
    for (size_t begin = 0; begin < steps; begin += GROUP) {
        t->last = begin + GROUP >= steps;
        list_group(t, p, begin, t->last ? steps : begin + GROUP, steps, limits, false);
        e8_avx2_bounded_rows(t);
        t->base = NULL;
    }
}

/* All channels for the rows of a panel. */
static void run_panel(const struct e8_gemm_s8 *g, const struct e8_requant *q, const struct panel *p, size_t first)
{
    size_t k = g->taps * g->segment, steps = (k + 3) / 4;
    for (size_t n = 0; n < g->n; n += E8_NR) {
        e8_avx2_bounded_base(p->sums, q->init + n, q->weight_sum + n); /* then + (lo + 128) * w */
        struct e8_bounded t = {
            .pitch = p->pitch,
            .w = g->w + n * 4 * steps,
            .base = p->sums,
            .q = q,
            .n = n,
            .columns = g->n - n < E8_NR ? g->n - n : E8_NR,
            .residual = g->residual ? g->residual + first * g->residual_stride + n : NULL,
            .residual_stride = g->residual_stride,
            .out = g->out + first * g->out_stride + n,
            .out_stride = g->out_stride,
        };
        run_block(&t, p, steps, g->limits + n / E8_NR * E8_GEMM_LIMITS(k));
    }
}

void e8_avx2_gemm_bounded(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    size_t k = g->taps * g->segment;
    struct panel p = {.sums = g->scratch, .pitch = E8_GEMM_PITCH(k), .chunks = (k + CHUNK - 1) / CHUNK, .most = E8_GEMM_PANEL_ROWS(k)};
    p.lo = (uint8_t *)(p.sums + (p.most + 1) * E8_NR);
    p.x = p.lo + p.pitch;
    p.lists = p.x + p.most * p.pitch;
    p.top[0] = (uint8_t *)p.lists + E8_STEP_LIST_BYTES(E8_GEMM_LIST_STEPS(k));
    p.top[1] = p.top[0] + p.pitch / 8;
    for (size_t first = 0; first < g->m; first += p.most) {
        fill_panel(g, first, g->m - first < p.most ? g->m - first : p.most, &p);
        run_panel(g, q, &p, first);
    }
}
#endif
