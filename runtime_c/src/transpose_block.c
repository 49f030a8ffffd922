/* SPDX-License-Identifier: Apache-2.0
 *
 * Transposing a matrix in square tiles that fit into 64-bit words: a word holds 8, 4 or 2 neighbours, and swapping halves, then
 * quarters, then eighths between words turns columns into rows. */
#include "transpose_block.h"

#include <stdbool.h>
#include <string.h>

#define COPY_STRIDED(name, type)                                                                                                           \
    static void name(const uint8_t *in, ptrdiff_t in_step, uint8_t *out, ptrdiff_t out_step, size_t count)                                 \
    {                                                                                                                                      \
        for (size_t i = 0; i < count; i++) {                                                                                               \
            type value;                                                                                                                    \
            memcpy(&value, in + (ptrdiff_t)i * in_step, sizeof value);                                                                     \
            memcpy(out + (ptrdiff_t)i * out_step, &value, sizeof value);                                                                   \
        }                                                                                                                                  \
    }
COPY_STRIDED(copy_1, uint8_t)
COPY_STRIDED(copy_2, uint16_t)
COPY_STRIDED(copy_4, uint32_t)
COPY_STRIDED(copy_8, uint64_t)

void copy_elements(size_t width, const uint8_t *in, ptrdiff_t in_step, uint8_t *out, ptrdiff_t out_step, size_t count)
{
    if (width == 1)
        copy_1(in, in_step, out, out_step, count);
    else if (width == 2)
        copy_2(in, in_step, out, out_step, count);
    else if (width == 4)
        copy_4(in, in_step, out, out_step, count);
    else
        copy_8(in, in_step, out, out_step, count);
}

/* Three columns side by side, as pictures have them: out[3 r + c] = in[r + c * column_in], and back. Plain arrays of their type
 * would let the compiler assume alignment; copies of elements do not. */
#define THREE(name, type)                                                                                                                  \
    static void join_##name(const uint8_t *in, ptrdiff_t column_in, uint8_t *restrict out, size_t rows)                                    \
    {                                                                                                                                      \
        const uint8_t *in1 = in + column_in, *in2 = in1 + column_in;                                                                       \
        for (size_t r = 0; r < rows; r++) {                                                                                                \
            type value[3];                                                                                                                 \
            memcpy(&value[0], in + r * sizeof(type), sizeof(type));                                                                        \
            memcpy(&value[1], in1 + r * sizeof(type), sizeof(type));                                                                       \
            memcpy(&value[2], in2 + r * sizeof(type), sizeof(type));                                                                       \
            memcpy(out + 3 * r * sizeof(type), value, sizeof value);                                                                       \
        }                                                                                                                                  \
    }                                                                                                                                      \
    static void part_##name(const uint8_t *in, uint8_t *restrict out, ptrdiff_t row_out, size_t columns)                                   \
    {                                                                                                                                      \
        uint8_t *restrict out1 = out + row_out, *restrict out2 = out1 + row_out;                                                           \
        for (size_t c = 0; c < columns; c++) {                                                                                             \
            type value[3];                                                                                                                 \
            memcpy(value, in + 3 * c * sizeof(type), sizeof value);                                                                        \
            memcpy(out + c * sizeof(type), &value[0], sizeof(type));                                                                       \
            memcpy(out1 + c * sizeof(type), &value[1], sizeof(type));                                                                      \
            memcpy(out2 + c * sizeof(type), &value[2], sizeof(type));                                                                      \
        }                                                                                                                                  \
    }
THREE(1, uint8_t)
THREE(4, uint32_t)

static bool three(const struct transpose_block *t, const uint8_t *in, uint8_t *out)
{
    ptrdiff_t width = (ptrdiff_t)t->width;
    if (t->width != 1 && t->width != 4) return false;
    if (t->columns == 3 && t->row_out == 3) {
        (t->width == 1 ? join_1 : join_4)(in, t->column_in * width, out, t->rows);
        return true;
    }
    if (t->rows == 3 && t->column_in == 3) {
        (t->width == 1 ? part_1 : part_4)(in, out, t->row_out * width, t->columns);
        return true;
    }
    return false;
}

/* Any part of the matrix, element by element, along its longer side. */
static void plain(const struct transpose_block *t, const uint8_t *in, uint8_t *out, size_t rows, size_t columns)
{
    ptrdiff_t width = (ptrdiff_t)t->width;
    if (rows > columns) {
        for (size_t c = 0; c < columns; c++)
            copy_elements(t->width, in + (ptrdiff_t)c * t->column_in * width, width, out + (ptrdiff_t)c * width, t->row_out * width, rows);
    } else {
        for (size_t r = 0; r < rows; r++)
            copy_elements(t->width, in + (ptrdiff_t)r * width, t->column_in * width, out + (ptrdiff_t)r * t->row_out * width, width,
                          columns);
    }
}

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HAS_TILES 1

/* Exchange the upper `shift` bits of each 2 * shift bits of a with the lower ones of b. */
static inline void swap_parts(uint64_t *a, uint64_t *b, uint32_t shift, uint64_t low)
{
    uint64_t moved = ((*a >> shift) ^ *b) & low;
    *b ^= moved;
    *a ^= moved << shift;
}

/* A tile of n x n elements, n = 8 / width. Steps in bytes. */
#define TILE(name, n, stages)                                                                                                              \
    static inline void name(const uint8_t *in, ptrdiff_t column_in, uint8_t *out, ptrdiff_t row_out)                                       \
    {                                                                                                                                      \
        uint64_t w[n];                                                                                                                     \
        for (int i = 0; i < n; i++) memcpy(&w[i], in + i * column_in, 8);                                                                  \
        stages;                                                                                                                            \
        for (int i = 0; i < n; i++) memcpy(out + i * row_out, &w[i], 8);                                                                   \
    }
TILE(tile_1, 8, {
    for (int i = 0; i < 4; i++) swap_parts(&w[i], &w[i + 4], 32, 0x00000000FFFFFFFFu);
    for (int i = 0; i < 8; i += 4)
        for (int k = i; k < i + 2; k++) swap_parts(&w[k], &w[k + 2], 16, 0x0000FFFF0000FFFFu);
    for (int i = 0; i < 8; i += 2) swap_parts(&w[i], &w[i + 1], 8, 0x00FF00FF00FF00FFu);
})
TILE(tile_2, 4, {
    for (int i = 0; i < 2; i++) swap_parts(&w[i], &w[i + 2], 32, 0x00000000FFFFFFFFu);
    for (int i = 0; i < 4; i += 2) swap_parts(&w[i], &w[i + 1], 16, 0x0000FFFF0000FFFFu);
})
TILE(tile_4, 2, swap_parts(&w[0], &w[1], 32, 0x00000000FFFFFFFFu))

/* Columns of 8 bytes at a time down all whole tiles of rows: reads and writes stay within a few lines of the cache. */
#define STRIPS(name, tile, n)                                                                                                              \
    static void name(const struct transpose_block *t, const uint8_t *in, uint8_t *out, size_t rows, size_t columns)                        \
    {                                                                                                                                      \
        ptrdiff_t width = 8 / n, column_in = t->column_in * width, row_out = t->row_out * width;                                           \
        for (size_t r = 0; r < rows; r += n)                                                                                               \
            for (size_t c = 0; c < columns; c += n)                                                                                        \
                tile(in + (ptrdiff_t)r * width + (ptrdiff_t)c * column_in, column_in, out + (ptrdiff_t)r * row_out + (ptrdiff_t)c * width, \
                     row_out);                                                                                                             \
    }
STRIPS(strips_1, tile_1, 8)
STRIPS(strips_2, tile_2, 4)
STRIPS(strips_4, tile_4, 2)
#endif

/* So many columns, each read from its own line, stay in the first-level cache while the rows pass by; fewer when the lines are
 * a power of two apart and fall into the same set. */
static size_t group_of(const struct transpose_block *t)
{
    return (size_t)t->column_in * t->width % 1024 == 0 ? 8 : 32;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void transpose_block(const struct transpose_block *t, const uint8_t *in, uint8_t *out)
{
    ptrdiff_t width = (ptrdiff_t)t->width;
    size_t limit = group_of(t);
    if (three(t, in, out)) return;
#ifdef HAS_TILES
    size_t n = 8 / t->width;
    if (n > 1 && t->rows >= n && t->columns >= n) {
        size_t rows = t->rows / n * n, columns = t->columns / n * n;
        for (size_t c = 0; c < columns; c += limit) {
            size_t group = smaller(columns - c, limit);
            const uint8_t *from = in + (ptrdiff_t)c * t->column_in * width;
            uint8_t *to = out + (ptrdiff_t)c * width;
            if (n == 8)
                strips_1(t, from, to, rows, group);
            else if (n == 4)
                strips_2(t, from, to, rows, group);
            else
                strips_4(t, from, to, rows, group);
        }
        plain(t, in + (ptrdiff_t)rows * width, out + (ptrdiff_t)rows * t->row_out * width, t->rows - rows, columns);
        plain(t, in + (ptrdiff_t)columns * t->column_in * width, out + (ptrdiff_t)columns * width, t->rows, t->columns - columns);
        return;
    }
#endif
    for (size_t c = 0; c < t->columns; c += limit) {
        size_t group = smaller(t->columns - c, limit), height = group < 8 ? 1024 / group : group;
        for (size_t r = 0; r < t->rows; r += height)
            plain(t, in + ((ptrdiff_t)r + (ptrdiff_t)c * t->column_in) * width, out + ((ptrdiff_t)r * t->row_out + (ptrdiff_t)c) * width,
                  smaller(t->rows - r, height), group);
    }
}
