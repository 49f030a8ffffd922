/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading numpy's .npy files, format versions 1.0 to 3.0, C order, little-endian. */
#include <stdlib.h>
#include <string.h>

#include "run.h"

/* What a .npy header says. */
struct array {
    char kind;    /* f, i, u, b */
    size_t width; /* bytes of an element */
    uint64_t dims[8];
    int rank;
    const uint8_t *data;
    size_t bytes;
};

/* The text after 'key': in the header, or NULL. */
static const char *value_of(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (!at) return NULL;
    at += strlen(key);
    while (*at == ' ' || *at == ':') at++;
    return at;
}

static bool parse_description(const char *text, struct array *a)
{
    if (!text || *text++ != '\'') return false;
    char order = *text++;
    a->kind = *text++;
    a->width = (size_t)(*text++ - '0');
    if (*text != '\'' || (order != '<' && order != '|') || !strchr("fiub", a->kind)) return false;
    if (a->kind == 'f') return a->width == 4 || a->width == 8;
    return a->width == 1 || (a->kind != 'b' && (a->width == 2 || a->width == 4 || a->width == 8));
}

static bool parse_shape(const char *text, struct array *a)
{
    if (!text || *text++ != '(') return false;
    a->rank = 0;
    while (*text != ')') {
        char *end;
        if (*text < '0' || *text > '9' || a->rank == 8) return false;
        a->dims[a->rank++] = strtoull(text, &end, 10);
        text = end;
        while (*text == ',' || *text == ' ') text++;
    }
    return true;
}

static const char *parse(const struct file *file, struct array *a)
{
    const uint8_t *b = file->bytes;
    if (file->size < 12 || memcmp(b, "\x93NUMPY", 6) != 0 || b[6] < 1 || b[6] > 3) return "is not a .npy file";
    size_t start = b[6] == 1 ? 10 : 12;
    size_t length = b[6] == 1 ? (size_t)(b[8] | b[9] << 8) : (size_t)b[8] | (size_t)b[9] << 8 | (size_t)b[10] << 16 | (size_t)b[11] << 24;
    char header[1024];
    if (length >= sizeof header || file->size < start + length) return "has a header that is cut off or too long";
    memcpy(header, b + start, length);
    header[length] = 0;
    const char *order = value_of(header, "'fortran_order'");
    if (!parse_description(value_of(header, "'descr'"), a)) return "has an element type that cannot be used (save it as float32)";
    if (!order || strncmp(order, "False", 5) != 0) return "is in Fortran order (save numpy.ascontiguousarray of it)";
    if (!parse_shape(value_of(header, "'shape'"), a)) return "has a shape that cannot be read";
    a->data = b + start + length;
    a->bytes = file->size - start - length;
    return NULL;
}

/* Equal apart from dimensions of 1 in front. */
static bool same_shape(const struct array *a, const e8_tensor *t)
{
    int i = 0, j = 0;
    while (i < a->rank && a->dims[i] == 1) i++;
    while (j < t->rank && t->dims[j] == 1) j++;
    if (a->rank - i != t->rank - j) return false;
    for (; i < a->rank; i++, j++)
        if (a->dims[i] != (uint64_t)t->dims[j]) return false;
    return true;
}

/* Whole runs one after another: as many dimensions, all but the first the same. */
static uint32_t count_runs(const struct array *a, const e8_tensor *t)
{
    if (a->rank != t->rank || a->rank == 0 || a->dims[0] == 0 || a->dims[0] % (uint64_t)t->dims[0] != 0) return 0;
    for (int i = 1; i < a->rank; i++)
        if (a->dims[i] != (uint64_t)t->dims[i]) return 0;
    uint64_t runs = a->dims[0] / (uint64_t)t->dims[0];
    return runs > UINT32_MAX ? 0 : (uint32_t)runs;
}

static uint64_t load_bits(const uint8_t *p, size_t width)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < width; i++) bits |= (uint64_t)p[i] << 8 * i;
    return bits;
}

static int64_t load_whole(const struct array *a, uint64_t i)
{
    uint64_t bits = load_bits(a->data + i * a->width, a->width);
    unsigned shift = (unsigned)(64 - 8 * a->width);
    return a->kind == 'i' ? (int64_t)(bits << shift) >> shift : (int64_t)bits;
}

static double load_real(const struct array *a, uint64_t i)
{
    uint64_t bits = load_bits(a->data + i * a->width, a->width);
    double value;
    float narrow;
    if (a->kind != 'f') return (double)load_whole(a, i);
    if (a->width == 8) {
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    uint32_t half = (uint32_t)bits;
    memcpy(&narrow, &half, sizeof narrow);
    return (double)narrow;
}

/* Store a whole number; false when it does not fit the type. */
static bool store_whole(void *data, uint64_t i, int32_t type, int64_t v)
{
    switch (type) {
    case E8_INT8: ((int8_t *)data)[i] = (int8_t)v; return v >= INT8_MIN && v <= INT8_MAX;
    case E8_UINT8: ((uint8_t *)data)[i] = (uint8_t)v; return v >= 0 && v <= UINT8_MAX;
    case E8_BOOL: ((uint8_t *)data)[i] = v != 0; return v == 0 || v == 1;
    case E8_INT16: ((int16_t *)data)[i] = (int16_t)v; return v >= INT16_MIN && v <= INT16_MAX;
    case E8_INT32: ((int32_t *)data)[i] = (int32_t)v; return v >= INT32_MIN && v <= INT32_MAX;
    default: ((int64_t *)data)[i] = v; return true;
    }
}

int read_npy(const char *path, const struct file *file, const e8_tensor *t, void *data, uint32_t part, uint32_t *parts)
{
    struct array a;
    char shape[128];
    const char *wrong = parse(file, &a);
    if (wrong) return complain(EXIT_INPUT, "%s: %s", path, wrong);
    uint64_t elements = count_elements(t);
    uint32_t runs = same_shape(&a, t) ? 1 : parts ? count_runs(&a, t) : 0;
    if (runs == 0)
        return complain(EXIT_INPUT, "%s: its shape is not that of input %s, %s", path, t->name, shape_text(t, shape, sizeof shape));
    if (a.bytes / (elements * a.width) < runs)
        return complain(EXIT_INPUT, "%s: is cut off: %zu of %llu bytes of data", path, a.bytes,
                        (unsigned long long)(elements * a.width) * runs);
    if (t->type != E8_FLOAT32 && a.kind == 'f')
        return complain(EXIT_INPUT, "%s: holds floats, but input %s is %s", path, t->name, type_name(t->type));
    if (parts) *parts = runs;
    a.data += (size_t)(part * elements * a.width);
    for (uint64_t i = 0; i < elements; i++) {
        if (t->type == E8_FLOAT32)
            ((float *)data)[i] = (float)load_real(&a, i);
        else if (!store_whole(data, i, t->type, load_whole(&a, i)))
            return complain(EXIT_INPUT, "%s: element %llu does not fit %s, the type of input %s", path, (unsigned long long)i,
                            type_name(t->type), t->name);
    }
    return EXIT_DONE;
}
