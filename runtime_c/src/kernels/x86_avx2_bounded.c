/* SPDX-License-Identifier: Apache-2.0
 *
 * Sums of products on AVX2 without VNNI. The fastest instruction, vpmaddubsw, multiplies unsigned with signed bytes and
 * saturates the sum of two products to int16; used blindly it gives wrong sums, used carefully it costs a third more. Here it is
 * used where its sums are proved to fit.
 *
 * Inputs are unsigned bytes x. For each step of 4 inputs of 16 channels the weights have a limit: the largest x for which no sum of
 * two products, positive or negative ones alone, leaves int16; for two neighbouring steps another one, for which the sums of both
 * can be added as int16 before they are widened. Whoever gathers the inputs of some rows finds the largest of each 8. So each two
 * steps go one of three ways, the same for all these rows: together (5 instructions for 8 inputs of 8 channels), each by itself (6)
 * or, where even a single step might saturate, widened to int16 (8, and what the widening costs). The sums are whole numbers, so their
 * order does not matter: the steps of each way are listed and run one list after the other.
 *
 * The result is exact in every case, only the speed depends on the data. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "x86_avx2.h"
#include "x86_avx2_bounded.h"

enum { ROWS = 4, SPARE = 3 /* entries that may be written behind a list */ };

void e8_avx2_place_lists(struct e8_step_lists *lists, void *room, size_t steps)
{
    struct e8_step *at = room;
    *lists = (struct e8_step_lists){.list = {at, at + steps / 2 + SPARE, at + steps / 2 + steps + 2 * SPARE}};
}

/* For a set of 4 positions: their numbers, in order, as pairs of words to permute. */
#define PICK(a, b, c, d) {2 * (a), 2 * (a) + 1, 2 * (b), 2 * (b) + 1, 2 * (c), 2 * (c) + 1, 2 * (d), 2 * (d) + 1}
static const uint8_t PICKS[16][8] = {PICK(0, 0, 0, 0), PICK(0, 0, 0, 0), PICK(1, 0, 0, 0), PICK(0, 1, 0, 0),
                                     PICK(2, 0, 0, 0), PICK(0, 2, 0, 0), PICK(1, 2, 0, 0), PICK(0, 1, 2, 0),
                                     PICK(3, 0, 0, 0), PICK(0, 3, 0, 0), PICK(1, 3, 0, 0), PICK(0, 1, 3, 0),
                                     PICK(2, 3, 0, 0), PICK(0, 2, 3, 0), PICK(1, 2, 3, 0), PICK(0, 1, 2, 3)};

/* One entry for each bit, which stand for positions `apart` steps from each other. Four are written at a time, whatever they are:
 * branches that depend on the data would be mispredicted. */
AVX2_INLINE void append(struct e8_step_lists *lists, size_t way, struct e8_step at, uint64_t set, int32_t apart)
{
    struct e8_step *to = lists->list[way] + lists->count[way];
    const int32_t x = 4 * apart, w = 4 * E8_NR * apart;
    __m256i step = _mm256_add_epi32(_mm256_setr_epi32(0, 0, x, w, 2 * x, 2 * w, 3 * x, 3 * w),
                                    _mm256_set1_epi64x((int64_t)((uint64_t)at.w << 32 | at.x)));
    for (; set; set >>= 4) {
        __m128i pick = _mm_loadl_epi64((const __m128i *)(const void *)PICKS[set & 15]);
        _mm256_storeu_si256((__m256i *)(void *)to, _mm256_permutevar8x32_epi32(step, _mm256_cvtepu8_epi32(pick)));
        to += (0x4332322132212110u >> (set & 15) * 4) & 15;
        step = _mm256_add_epi32(step, _mm256_setr_epi32(4 * x, 4 * w, 4 * x, 4 * w, 4 * x, 4 * w, 4 * x, 4 * w));
    }
    lists->count[way] = (size_t)(to - lists->list[way]);
}

/* Bytes of a that are at most b. */
AVX2_INLINE __m256i at_most(__m256i a, __m256i b)
{
    return _mm256_cmpeq_epi8(_mm256_max_epu8(a, b), b);
}

/* 16 bytes, each twice. */
AVX2_INLINE __m256i load_twice(const uint8_t *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_set_m128i(_mm_unpackhi_epi8(v, v), _mm_unpacklo_epi8(v, v));
}

/* Every second bit, moved together. */
static uint32_t even_bits(uint32_t v)
{
    v &= 0x55555555u;
    v = (v | v >> 1) & 0x33333333u;
    v = (v | v >> 2) & 0x0F0F0F0Fu;
    v = (v | v >> 4) & 0x00FF00FFu;
    return (v | v >> 8) & 0xFFFFu;
}

/* Up to 32 steps from `first`. */
AVX2 static void list_part(struct e8_step_lists *lists, const struct e8_steps *s, size_t first, bool skip)
{
    size_t count = s->count - first;
    struct e8_step at = {s->first.x + 4 * (uint32_t)first, s->first.w + 4 * E8_NR * (uint32_t)first};
    uint32_t used = count < 32 ? (UINT32_C(1) << count) - 1 : UINT32_MAX;
    __m256i most = load_twice(s->top + first / 2), one = _mm256_loadu_si256((const __m256i *)(const void *)(s->one + first));
    uint32_t together = (uint32_t)_mm256_movemask_epi8(at_most(most, load_twice(s->two + first / 2)));
    uint32_t alone = (uint32_t)_mm256_movemask_epi8(at_most(most, one));
    if (skip) used &= ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(most, _mm256_setzero_si256()));
    /* A last step without a neighbour is alone. */
    together &= used & (used >> 1 | 0xAAAAAAAAu);
    used &= ~together;
    append(lists, E8_TWO_STEPS, at, even_bits(together), 2);
    append(lists, E8_ONE_STEP, at, used & alone, 1);
    append(lists, E8_WIDE_STEP, at, used & ~alone, 1);
}

void e8_avx2_list_steps(struct e8_step_lists *lists, const struct e8_steps *s, bool skip)
{
    for (size_t first = 0; first < s->count; first += 32) list_part(lists, s, first, skip);
}

AVX2_INLINE __m256i load_weights(const int8_t *w)
{
    return _mm256_load_si256((const __m256i *)(const void *)w);
}

AVX2_INLINE __m256i load_inputs(const uint8_t *x)
{
    int32_t word;
    memcpy(&word, x, sizeof word);
    return _mm256_set1_epi32(word);
}

/* acc += pairs of int16. */
AVX2_INLINE __m256i add_sums(__m256i acc, __m256i pairs)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

AVX2_INLINE void add_two_steps(__m256i acc[ROWS][2], int rows, int vectors, const uint8_t *x, size_t pitch, const int8_t *w)
{
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        __m256i a = load_inputs(x + (size_t)i * pitch), b = load_inputs(x + (size_t)i * pitch + 4);
        /* The weights stay in memory: held in registers for all rows they would push the sums out. */
        __asm__("" : "+r"(w));
        E8_UNROLL
        for (int j = 0; j < vectors; j++) {
            __m256i first = _mm256_maddubs_epi16(a, load_weights(w + 32 * j));
            __m256i second = _mm256_maddubs_epi16(b, load_weights(w + 64 + 32 * j));
            acc[i][j] = add_sums(acc[i][j], _mm256_add_epi16(first, second));
        }
    }
}

AVX2_INLINE void add_one_step(__m256i acc[ROWS][2], int rows, int vectors, const uint8_t *x, size_t pitch, const int8_t *w)
{
    __m256i v[2];
    E8_UNROLL
    for (int j = 0; j < vectors; j++) v[j] = load_weights(w + 32 * j);
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        __m256i a = load_inputs(x + (size_t)i * pitch);
        E8_UNROLL
        for (int j = 0; j < vectors; j++) acc[i][j] = add_sums(acc[i][j], _mm256_maddubs_epi16(a, v[j]));
    }
}

/* One step as int16: inputs and weights 0 and 2, then 1 and 3. */
AVX2_INLINE void add_wide_step(__m256i acc[ROWS][2], int rows, int vectors, const uint8_t *x, size_t pitch, const int8_t *w)
{
    __m256i even[2], odd[2];
    E8_UNROLL
    for (int j = 0; j < vectors; j++) {
        odd[j] = load_weights(w + 32 * j);
        even[j] = _mm256_srai_epi16(_mm256_slli_epi16(odd[j], 8), 8);
        odd[j] = _mm256_srai_epi16(odd[j], 8);
    }
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        __m256i a = load_inputs(x + (size_t)i * pitch), b = _mm256_srli_epi16(a, 8);
        a = _mm256_and_si256(a, _mm256_set1_epi16(255));
        E8_UNROLL
        for (int j = 0; j < vectors; j++) {
            acc[i][j] = _mm256_add_epi32(acc[i][j], _mm256_madd_epi16(a, even[j]));
            acc[i][j] = _mm256_add_epi32(acc[i][j], _mm256_madd_epi16(b, odd[j]));
        }
    }
}

AVX2_INLINE void add_steps(__m256i acc[ROWS][2], int rows, int vectors, const struct e8_bounded *t, const uint8_t *x)
{
    const struct e8_step_lists *s = &t->steps;
    const struct e8_step *step = s->list[E8_TWO_STEPS], *end = step + s->count[E8_TWO_STEPS];
    for (; step < end; step++) add_two_steps(acc, rows, vectors, x + step->x, t->pitch, t->w + step->w);
    step = s->list[E8_ONE_STEP];
    for (end = step + s->count[E8_ONE_STEP]; step < end; step++) add_one_step(acc, rows, vectors, x + step->x, t->pitch, t->w + step->w);
    step = s->list[E8_WIDE_STEP];
    for (end = step + s->count[E8_WIDE_STEP]; step < end; step++) add_wide_step(acc, rows, vectors, x + step->x, t->pitch, t->w + step->w);
}

/* Codes of ROWS or one row of 16 channels. */
AVX2_INLINE void store_codes(const struct e8_bounded *t, const struct requant_avx2 *r, __m256i acc[ROWS][2], int rows,
                             const int8_t *residual, size_t residual_stride, int8_t *out, size_t out_stride)
{
    if (residual) {
        E8_UNROLL
        for (int i = 0; i < rows; i++) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(residual + (size_t)i * residual_stride));
            acc[i][0] = add_residual8(r, t->q, acc[i][0], t->n, bytes);
            acc[i][1] = add_residual8(r, t->q, acc[i][1], t->n + 8, _mm_srli_si128(bytes, 8));
        }
    }
    E8_UNROLL
    for (int i = 0; i < rows; i += 2) {
        int8_t *to = out + (size_t)i * out_stride;
        __m256i first = requant16(r, t->q, acc[i][0], acc[i][1], t->n);
        __m256i bytes = join_rows(r, first, i + 1 < rows ? requant16(r, t->q, acc[i + 1][0], acc[i + 1][1], t->n) : first);
        _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(bytes));
        if (i + 1 < rows) _mm_storeu_si128((__m128i *)(void *)(to + out_stride), _mm256_extracti128_si256(bytes, 1));
    }
}

static void copy_channels(int8_t *to, size_t to_stride, const int8_t *from, size_t from_stride, size_t rows, size_t columns)
{
    for (size_t i = 0; i < rows; i++, to += to_stride, from += from_stride) {
        if (columns == 8)
            memcpy(to, from, 8);
        else
            memcpy(to, from, columns);
    }
}

/* Up to four rows, from their sums: fewer rows or channels than a whole tile, or codes that go through a table. */
AVX2 __attribute__((noinline)) static void finish_part(const struct e8_bounded *t, const struct requant_avx2 *r, size_t first, size_t count)
{
    int8_t added[ROWS * E8_NR] = {0}, codes[ROWS * E8_NR], *out = t->out + first * t->out_stride;
    __m256i acc[ROWS][2], *sums = (__m256i *)(void *)(t->sums + first * E8_NR);
    for (int i = 0; i < ROWS; i++) {
        acc[i][0] = _mm256_load_si256(sums + 2 * i);
        acc[i][1] = _mm256_load_si256(sums + 2 * i + 1);
    }
    if (t->residual) copy_channels(added, E8_NR, t->residual + first * t->residual_stride, t->residual_stride, count, t->columns);
    store_codes(t, r, acc, ROWS, t->residual ? added : NULL, E8_NR, codes, E8_NR);
    if (t->q->table) look_up(codes, count * E8_NR, t->q->table);
    copy_channels(out, t->out_stride, codes, E8_NR, count, t->columns);
}

/* `rows` rows from `first`, of which `count` exist. */
AVX2_INLINE void run_tile(const struct e8_bounded *t, const struct requant_avx2 *r, int rows, int vectors, size_t first, size_t count)
{
    __m256i acc[ROWS][2], *sums = (__m256i *)(void *)(t->sums + first * E8_NR);
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        E8_UNROLL
        for (int j = 0; j < 2; j++)
            acc[i][j] = t->base ? _mm256_load_si256((const __m256i *)(const void *)(t->base + 8 * j)) : _mm256_load_si256(sums + 2 * i + j);
    }
    add_steps(acc, rows, vectors, t, t->x + first * t->pitch);
    if (rows == ROWS && vectors == 2 && t->last && count >= ROWS && t->columns == E8_NR && !t->q->table) {
        const int8_t *residual = t->residual ? t->residual + first * t->residual_stride : NULL;
        store_codes(t, r, acc, rows, residual, t->residual_stride, t->out + first * t->out_stride, t->out_stride);
        return;
    }
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        E8_UNROLL
        for (int j = 0; j < 2; j++) _mm256_store_si256(sums + 2 * i + j, acc[i][j]);
    }
    if (t->last) finish_part(t, r, first, count < (size_t)rows ? count : (size_t)rows);
}

AVX2_INLINE void run_rows(const struct e8_bounded *t, int vectors)
{
    struct requant_avx2 r = requant_constants(t->q);
    size_t i = 0;
    for (; i + 1 < t->rows; i += ROWS) run_tile(t, &r, ROWS, vectors, i, t->rows - i);
    if (i < t->rows) run_tile(t, &r, 1, vectors, i, 1);
}

AVX2 void e8_avx2_bounded_rows(const struct e8_bounded *t)
{
    if (t->columns > 8)
        run_rows(t, 2);
    else
        run_rows(t, 1);
}

/* Sums of positive and of negative weights in each int16 of 8 channels; -128 counts as the unsigned byte 128. */
AVX2_INLINE void split_sums(__m256i out[2], const int8_t *w)
{
    const __m256i zero = _mm256_setzero_si256(), ones = _mm256_set1_epi8(1);
    __m256i v = load_weights(w);
    out[0] = _mm256_maddubs_epi16(_mm256_max_epi8(v, zero), ones);
    out[1] = _mm256_maddubs_epi16(_mm256_sub_epi8(zero, _mm256_min_epi8(v, zero)), ones);
}

/* The largest x for which 16 sums of weights fit, from the vector of sums. */
AVX2_INLINE uint8_t limit_of(__m256i sums)
{
    __m128i a = _mm_max_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    /* vphminposuw finds the least of 8 words. */
    int32_t sum = 0x7FFF - (_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_sub_epi16(_mm_set1_epi16(0x7FFF), a))) & 0xFFFF);
    return (uint8_t)(32767 / (sum > 128 ? sum : 128));
}

AVX2 void e8_avx2_weight_limits(const int8_t *w, size_t blocks, size_t k, uint8_t *limits)
{
    size_t count = (k + 3) / 4;
    for (size_t b = 0; b < blocks; b++, limits += E8_GEMM_LIMITS(k)) {
        const __m256i zero = _mm256_setzero_si256();
        __m256i kept[4] = {zero, zero, zero, zero};
        for (size_t s = 0; s < count; s++, w += 4 * E8_NR) {
            __m256i sums[4];
            split_sums(sums, w);
            split_sums(sums + 2, w + 32);
            limits[s] = limit_of(_mm256_max_epi16(_mm256_max_epi16(sums[0], sums[1]), _mm256_max_epi16(sums[2], sums[3])));
            __m256i both = _mm256_setzero_si256();
            for (int i = 0; i < 4; i++) {
                if (s % 2) both = _mm256_max_epi16(both, _mm256_add_epi16(kept[i], sums[i]));
                kept[i] = sums[i];
            }
            if (s % 2) limits[count + s / 2] = limit_of(both);
        }
    }
}

void e8_init_avx2_bounded(struct e8_kernels *k)
{
    k->weight_limits = e8_avx2_weight_limits;
}
#endif
