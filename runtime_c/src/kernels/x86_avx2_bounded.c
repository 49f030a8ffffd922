/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm_s8 for many rows on AVX2 without VNNI. The fastest instruction, vpmaddubsw, multiplies unsigned with signed bytes and
 * saturates the sum of two products to int16; used blindly it gives wrong sums, used carefully it costs a third more. Here it is
 * used where its sums are proved to fit:
 *
 *   Rows are copied, up to 48 at a time, as x = a - lo >= 0, where lo[k] is the least code of input k in these rows; lo times the
 *   weights is computed once, like another row. For 64 inputs of four rows the largest x is found, for 64 inputs of 16 channels
 *   the largest sum of positive (or of negative) weights that meet in one int16: of one step of 4 inputs (two products), of two
 *   steps and of four. If their product is at most 32767, that many steps are added as int16 before they are widened: 1, 2 or
 *   4 steps cost 3, 5 or 9 instructions. If not even one step fits, the sign of x - 128 is moved to the weights, which always
 *   fits, and 128 times the weights' sum is added.
 *
 * The result is exact in every case, only the speed depends on the data. Of the steps of MobileNetV2 on pictures 56 % go four at
 * a time, 4 % need the slow form; of a ResNet-18 with random weights 11 % and 4 %. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include <stdbool.h>

#include "x86_avx2.h"

enum {
    ROWS = 4,
    MOST_ROWS = 48,
    CHUNK = 64, /* inputs under one bound */
    STEPS = CHUNK / 4,
    GROUP = 4, /* chunks between visits to the sums of a tile */
    /* What weight_limits leaves for a chunk of 16 channels: limits of x for 1, 2 and 4 steps, and sums of weights as int16. */
    LIMIT_BYTES = (int)E8_GEMM_LIMITS(64),
    CHUNK_SUMS = 8
};

/* Tiles of four rows, copied, and the row lo. */
struct panel {
    uint8_t *x;     /* [tiles][4][pitch] */
    uint8_t *lo;    /* [pitch]: codes + 128 */
    int32_t *sums;  /* [tiles][4][16] */
    uint8_t *reach; /* [tiles + 1][chunks]: largest x; the last row is lo's */
    size_t pitch, chunks, rows, most;
    bool flat; /* lo is 0 throughout */
};

AVX2_INLINE __m256i load256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Largest byte. */
AVX2_INLINE uint8_t top_byte(__m256i v)
{
    __m128i a = _mm_max_epu8(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_max_epu8(a, _mm_srli_epi16(a, 8));
    /* phminposuw finds the least of 8 words. */
    a = _mm_minpos_epu16(_mm_sub_epi16(_mm_set1_epi16(255), _mm_and_si128(a, _mm_set1_epi16(255))));
    return (uint8_t)(255 - _mm_cvtsi128_si32(a));
}

/* One row's segments, side by side; the rest of its last chunk is -128 in every row. */
static void copy_row(const struct e8_gemm_s8 *g, size_t row, uint8_t *to, size_t padded)
{
    uint8_t *at = to;
    for (size_t t = 0; t < g->taps; t++, at += g->segment) memcpy(at, g->a[t * g->a_stride + row], g->segment);
    memset(at, 0x80, padded - (size_t)(at - to));
}

/* Chunk c of all rows: find lo, then subtract it. `from` has the rows' codes, or NULL where they lie in the panel already. */
AVX2_INLINE void bound_chunk(const uint8_t *const from[MOST_ROWS], struct panel *p, size_t c, bool in_panel)
{
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    __m256i lo[2] = {_mm256_set1_epi8(127), _mm256_set1_epi8(127)};
    for (size_t i = 0; i < p->rows; i++) {
        const uint8_t *source = (in_panel ? p->x + i * p->pitch : from[i]) + c * CHUNK;
        lo[0] = _mm256_min_epi8(lo[0], load256(source));
        lo[1] = _mm256_min_epi8(lo[1], load256(source + 32));
    }
    __m256i a = _mm256_xor_si256(lo[0], flip), b = _mm256_xor_si256(lo[1], flip);
    _mm256_store_si256((__m256i *)(void *)(p->lo + c * CHUNK), a);
    _mm256_store_si256((__m256i *)(void *)(p->lo + c * CHUNK + 32), b);
    uint8_t top = top_byte(_mm256_max_epu8(a, b));
    p->reach[p->most / ROWS * p->chunks + c] = top;
    if (top) p->flat = false;
    for (size_t tile = 0; tile * ROWS < p->rows; tile++) {
        __m256i most = _mm256_setzero_si256();
        for (size_t i = tile * ROWS; i < p->rows && i < tile * ROWS + ROWS; i++) {
            uint8_t *to = p->x + i * p->pitch + c * CHUNK;
            const uint8_t *source = in_panel ? to : from[i] + c * CHUNK;
            a = _mm256_sub_epi8(load256(source), lo[0]);
            b = _mm256_sub_epi8(load256(source + 32), lo[1]);
            most = _mm256_max_epu8(most, _mm256_max_epu8(a, b));
            _mm256_store_si256((__m256i *)(void *)to, a);
            _mm256_store_si256((__m256i *)(void *)(to + 32), b);
        }
        p->reach[tile * p->chunks + c] = top_byte(most);
    }
}

/* Copy `rows` rows from `first`. A plain matrix is read where it lies, but for its last, incomplete chunk. */
AVX2 static void fill_panel(const struct e8_gemm_s8 *g, size_t first, size_t rows, struct panel *p)
{
    size_t k = g->taps * g->segment, whole = g->taps == 1 ? k / CHUNK : 0;
    const uint8_t *from[MOST_ROWS];
    p->rows = rows;
    p->flat = true;
    for (size_t i = 0; i < rows; i++) {
        uint8_t *to = p->x + i * p->pitch;
        from[i] = g->a[first + i];
        if (g->taps > 1) {
            copy_row(g, first + i, to, p->chunks * CHUNK);
        } else if (whole < p->chunks) {
            memset(to + whole * CHUNK, 0x80, CHUNK);
            memcpy(to + whole * CHUNK, from[i] + whole * CHUNK, k % CHUNK);
        }
    }
    for (size_t c = 0; c < whole; c++) bound_chunk(from, p, c, false);
    for (size_t c = whole; c < p->chunks; c++) bound_chunk(from, p, c, true);
}

/* `steps` steps together, `apart` steps from one to the next, for `rows` rows of x and `vectors` times 8 channels. */
AVX2_INLINE void add_steps(__m256i acc[ROWS][2], int rows, int vectors, int steps, int apart, const uint8_t *x, size_t pitch,
                           const int8_t *w)
{
    const __m256i ones = _mm256_set1_epi16(1);
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        __m256i sum[2];
        /* Weights of several steps stay in memory: held in registers for all rows they would push the sums out. */
        if (steps > 1) __asm__("" : "+r"(w));
        E8_UNROLL
        for (int s = 0; s < steps; s++) {
            int32_t word;
            memcpy(&word, x + (size_t)i * pitch + 4 * apart * s, 4);
            __m256i v = _mm256_set1_epi32(word);
            E8_UNROLL
            for (int j = 0; j < vectors; j++) {
                __m256i product = _mm256_maddubs_epi16(v, _mm256_load_si256((const __m256i *)(const void *)(w + 64 * apart * s + 32 * j)));
                sum[j] = s == 0 ? product : _mm256_add_epi16(sum[j], product);
                /* Keeps this order: a tree of additions needs more registers than there are. */
                if (steps > 2) __asm__("" : "+x"(sum[j]));
            }
        }
        E8_UNROLL
        for (int j = 0; j < vectors; j++) acc[i][j] = _mm256_add_epi32(acc[i][j], _mm256_madd_epi16(sum[j], ones));
    }
}

/* One step whose pairs might saturate: y = x - 128 has a sign to move and |y| <= 128. */
AVX2_INLINE void add_signed_step(__m256i acc[ROWS][2], int rows, int vectors, const uint8_t *x, size_t pitch, const int8_t *w)
{
    const __m256i ones = _mm256_set1_epi16(1), flip = _mm256_set1_epi8((char)0x80);
    __m256i v[2];
    E8_UNROLL
    for (int j = 0; j < vectors; j++) v[j] = _mm256_load_si256((const __m256i *)(const void *)(w + 32 * j));
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        int32_t word;
        memcpy(&word, x + (size_t)i * pitch, 4);
        __m256i y = _mm256_xor_si256(_mm256_set1_epi32(word), flip), size = _mm256_abs_epi8(y);
        E8_UNROLL
        for (int j = 0; j < vectors; j++) {
            __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(v[j], y));
            acc[i][j] = _mm256_add_epi32(acc[i][j], _mm256_madd_epi16(pairs, ones));
        }
    }
}

/* acc += 128 times the weight sums of a chunk. */
AVX2_INLINE void add_chunk_sums(__m256i acc[ROWS][2], int rows, int vectors, const uint8_t *limits)
{
    E8_UNROLL
    for (int j = 0; j < vectors; j++) {
        __m256i sum = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(limits + CHUNK_SUMS + 16 * j)));
        sum = _mm256_slli_epi32(sum, 7);
        E8_UNROLL
        for (int i = 0; i < rows; i++) acc[i][j] = _mm256_add_epi32(acc[i][j], sum);
    }
}

/* A chunk of `steps` steps; limits[0..2] bound x for 1, 2 and 4 steps at a time. In a whole chunk the steps added together are 4
 * apart (words of x that are neighbours would meet in one bank of the cache), in the last one pairs are neighbours. */
AVX2_INLINE void add_chunk(__m256i acc[ROWS][2], int rows, int vectors, const uint8_t *x, size_t pitch, const int8_t *w, size_t steps,
                           uint8_t reach, const uint8_t *limits)
{
    size_t s = 0;
    if (reach <= limits[2] && steps == STEPS) {
        for (; s < 4; s++) add_steps(acc, rows, vectors, 4, 4, x + 4 * s, pitch, w + 64 * s);
        return;
    }
    if (reach <= limits[1] && steps == STEPS) {
        for (; s < 8; s++) add_steps(acc, rows, vectors, 2, 4, x + 4 * (s + (s & 4)), pitch, w + 64 * (s + (s & 4)));
        return;
    }
    if (reach <= limits[1])
        for (; s + 2 <= steps; s += 2) add_steps(acc, rows, vectors, 2, 1, x + 4 * s, pitch, w + 64 * s);
    if (reach <= limits[0]) {
        for (; s < steps; s++) add_steps(acc, rows, vectors, 1, 1, x + 4 * s, pitch, w + 64 * s);
        return;
    }
    add_chunk_sums(acc, rows, vectors, limits);
    for (; s < steps; s++) add_signed_step(acc, rows, vectors, x + 4 * s, pitch, w + 64 * s);
}

/* Where a tile of outputs is. */
struct place {
    const struct e8_gemm_s8 *g;
    const struct e8_requant *q;
    const struct panel *p;
    const int8_t *w;         /* of the block */
    const uint8_t *limits;   /* of the block */
    size_t n, columns;       /* channels */
    size_t first;            /* row of the panel's first */
    size_t tile, begin, end; /* chunks */
    __m256i base[2];         /* what every row's sums start from */
};

/* Chunks [begin, end) of some rows. */
AVX2_INLINE void add_chunks(__m256i acc[ROWS][2], int rows, int vectors, const struct place *t, const uint8_t *x, const uint8_t *reach)
{
    size_t all = (t->g->taps * t->g->segment + 3) / 4;
    for (size_t c = t->begin; c < t->end; c++) {
        size_t steps = all - c * STEPS < STEPS ? all - c * STEPS : STEPS;
        add_chunk(acc, rows, vectors, x + c * CHUNK, t->p->pitch, t->w + c * (CHUNK * E8_NR), steps, reach[c], t->limits + LIMIT_BYTES * c);
    }
}

/* init - 128 * weight_sum + (lo + 128) * w. */
AVX2 static void find_base(struct place *t)
{
    const struct panel *p = t->p;
    __m256i acc[ROWS][2];
    for (int j = 0; j < 2; j++) {
        __m256i sum = load256(t->q->weight_sum + t->n + 8 * j);
        acc[0][j] = _mm256_sub_epi32(load256(t->q->init + t->n + 8 * j), _mm256_slli_epi32(sum, 7));
    }
    t->begin = 0;
    t->end = p->chunks;
    if (!p->flat) add_chunks(acc, 1, 2, t, p->lo, p->reach + p->most / ROWS * p->chunks);
    t->base[0] = acc[0][0];
    t->base[1] = acc[0][1];
}

AVX2_INLINE void run_tile(const struct place *t, const struct requant_avx2 *r, int rows, int vectors)
{
    const struct panel *p = t->p;
    __m256i acc[ROWS][2], *sums = (__m256i *)(void *)(p->sums + t->tile * ROWS * E8_NR);
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        E8_UNROLL
        for (int j = 0; j < 2; j++) acc[i][j] = t->begin == 0 ? t->base[j] : _mm256_load_si256(sums + 2 * i + j);
    }
    add_chunks(acc, rows, vectors, t, p->x + t->tile * ROWS * p->pitch, p->reach + t->tile * p->chunks);
    if (t->end < p->chunks) {
        E8_UNROLL
        for (int i = 0; i < rows; i++) {
            E8_UNROLL
            for (int j = 0; j < 2; j++) _mm256_store_si256(sums + 2 * i + j, acc[i][j]);
        }
        return;
    }
    const struct e8_gemm_s8 *g = t->g;
    size_t at = t->first + t->tile * ROWS;
    const int8_t *residual = g->residual ? g->residual + at * g->residual_stride + t->n : NULL;
    int8_t *out = g->out + at * g->out_stride + t->n;
    if (rows == ROWS && p->rows - t->tile * ROWS < ROWS) {
        /* Two or three rows; what is computed for the rest is not stored. */
        finish_rows(r, t->q, acc, 2, t->n, t->columns, residual, g->residual_stride, out, g->out_stride);
        if (p->rows - t->tile * ROWS == 3)
            finish_rows(r, t->q, acc + 2, 1, t->n, t->columns, residual ? residual + 2 * g->residual_stride : NULL, 0,
                        out + 2 * g->out_stride, 0);
        return;
    }
    finish_rows(r, t->q, acc, rows, t->n, t->columns, residual, g->residual_stride, out, g->out_stride);
}

/* One function per number of rows and vectors. */
#define TILE_FUNCTION(rows, vectors)                                                                                                       \
    AVX2 static void run_tile_##rows##_##vectors(const struct place *t, const struct requant_avx2 *r)                                      \
    {                                                                                                                                      \
        run_tile(t, r, rows, vectors);                                                                                                     \
    }
TILE_FUNCTION(4, 2)
TILE_FUNCTION(4, 1)
TILE_FUNCTION(1, 2)
TILE_FUNCTION(1, 1)

AVX2 static void run_any_tile(const struct place *t, const struct requant_avx2 *r)
{
    size_t rows = t->p->rows - t->tile * ROWS;
    if (t->columns > 8) {
        if (rows > 1)
            run_tile_4_2(t, r);
        else
            run_tile_1_2(t, r);
    } else {
        if (rows > 1)
            run_tile_4_1(t, r);
        else
            run_tile_1_1(t, r);
    }
}

/* All channels for the rows of a panel. */
AVX2 static void run_panel(const struct e8_gemm_s8 *g, const struct e8_requant *q, const struct panel *p, size_t first)
{
    struct requant_avx2 r = requant_constants(q);
    size_t block_bytes = (g->taps * g->segment + 3) / 4 * (4 * E8_NR);
    struct place t = {.g = g, .q = q, .p = p, .first = first};
    for (t.n = 0; t.n < g->n; t.n += E8_NR) {
        t.w = g->w + t.n / E8_NR * block_bytes;
        t.limits = g->limits + t.n / E8_NR * (LIMIT_BYTES * p->chunks);
        t.columns = g->n - t.n < E8_NR ? g->n - t.n : E8_NR;
        find_base(&t);
        for (t.begin = 0; t.begin < p->chunks; t.begin = t.end) {
            t.end = p->chunks - t.begin < 2 * GROUP ? p->chunks : t.begin + GROUP;
            for (t.tile = 0; t.tile * ROWS < p->rows; t.tile++) run_any_tile(&t, &r);
        }
    }
}

AVX2 void e8_avx2_gemm_bounded(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    size_t k = g->taps * g->segment;
    struct panel p = {.lo = g->scratch, .pitch = E8_GEMM_PITCH(k), .chunks = (k + CHUNK - 1) / CHUNK, .most = E8_GEMM_PANEL_ROWS(k)};
    p.x = p.lo + p.pitch;
    p.sums = (int32_t *)(void *)(p.x + p.most * p.pitch);
    p.reach = (uint8_t *)(p.sums + p.most * E8_NR);
    for (size_t first = 0; first < g->m; first += p.most) {
        fill_panel(g, first, g->m - first < p.most ? g->m - first : p.most, &p);
        run_panel(g, q, &p, first);
    }
}

/* Largest word. */
AVX2_INLINE int32_t top_word(__m256i v)
{
    __m128i a = _mm_max_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return 0x7FFF - (_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_sub_epi16(_mm_set1_epi16(0x7FFF), a))) & 0xFFFF);
}

static uint8_t limit_of(int32_t sum)
{
    int32_t limit = sum ? 32767 / sum : 255;
    return (uint8_t)(limit < 255 ? limit : 255);
}

/* Sums of positive and of negative weights in each int16 of a step of 8 channels. */
AVX2_INLINE void split_sums(__m256i out[2], __m256i w)
{
    const __m256i zero = _mm256_setzero_si256(), ones = _mm256_set1_epi8(1);
    out[0] = _mm256_maddubs_epi16(_mm256_max_epi8(w, zero), ones);
    out[1] = _mm256_maddubs_epi16(_mm256_max_epi8(_mm256_sub_epi8(zero, w), zero), ones);
}

/* The steps of a chunk as add_chunk groups them: four of them, s, s + apart ... */
AVX2_INLINE void chunk_limits(const int8_t *w, size_t steps, uint8_t *limits)
{
    size_t apart = steps == STEPS ? 4 : 1;
    __m256i one = _mm256_setzero_si256(), two = one, four = one;
    for (size_t group = 0; group < steps; group += 4) {
        size_t first = steps == STEPS ? group / 4 : group;
        for (size_t h = 0; h < 2; h++) {
            __m256i part[4][2];
            for (size_t i = 0; i < 4; i++) {
                size_t s = first + i * apart;
                split_sums(part[i], s < steps ? load256(w + 64 * s + 32 * h) : _mm256_setzero_si256());
            }
            for (size_t i = 0; i < 2; i++) {
                __m256i ab = _mm256_add_epi16(part[0][i], part[1][i]), cd = _mm256_add_epi16(part[2][i], part[3][i]);
                one = _mm256_max_epi16(
                    one, _mm256_max_epi16(_mm256_max_epi16(part[0][i], part[1][i]), _mm256_max_epi16(part[2][i], part[3][i])));
                two = _mm256_max_epi16(two, _mm256_max_epi16(ab, cd));
                four = _mm256_max_epi16(four, _mm256_add_epi16(ab, cd));
            }
        }
    }
    limits[0] = limit_of(top_word(one));
    limits[1] = limit_of(top_word(two));
    limits[2] = limit_of(top_word(four));
    limits[3] = 0;
}

/* Sums of the weights of a chunk, int16, 16 channels. */
AVX2_INLINE void chunk_sums(const int8_t *w, size_t steps, uint8_t *to)
{
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t s = 0; s < steps; s++)
        for (size_t h = 0; h < 2; h++)
            sum[h] = _mm256_add_epi16(sum[h], _mm256_maddubs_epi16(_mm256_set1_epi8(1), load256(w + 64 * s + 32 * h)));
    /* Two int16 a channel; 32 products of at most 127 each. */
    __m256i a = _mm256_madd_epi16(sum[0], _mm256_set1_epi16(1)), b = _mm256_madd_epi16(sum[1], _mm256_set1_epi16(1));
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8));
}

AVX2 static void weight_limits(const int8_t *w, size_t blocks, size_t k, uint8_t *limits)
{
    size_t all = (k + 3) / 4;
    for (size_t b = 0; b < blocks; b++) {
        for (size_t s = 0; s < all; s += STEPS, limits += LIMIT_BYTES) {
            size_t steps = all - s < STEPS ? all - s : STEPS;
            chunk_limits(w + (b * all + s) * (4 * E8_NR), steps, limits);
            chunk_sums(w + (b * all + s) * (4 * E8_NR), steps, limits + CHUNK_SUMS);
        }
    }
}

void e8_init_avx2_bounded(struct e8_kernels *k)
{
    k->weight_limits = weight_limits;
}
#endif
