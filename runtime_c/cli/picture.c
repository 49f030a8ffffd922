/* SPDX-License-Identifier: Apache-2.0
 *
 * Pictures as inputs: binary PPM and PGM (P6, P5) and uncompressed BMP of 24 or 32 bits, at the size that the model takes. */
#include <stdlib.h>
#include <string.h>

#include "run.h"

struct picture {
    uint32_t width, height, channels; /* channels: 1 or 3 */
    const uint8_t *pixels;            /* of row 0 */
    ptrdiff_t row_bytes, pixel_bytes;
    bool bgr;
};

/* A number of a PNM header: skips white space and comments. */
static bool pnm_number(const struct file *file, size_t *at, uint32_t *value)
{
    const uint8_t *b = file->bytes;
    while (*at < file->size && (b[*at] <= ' ' || b[*at] == '#')) {
        if (b[*at] == '#')
            while (*at < file->size && b[*at] != '\n') ++*at;
        else
            ++*at;
    }
    *value = 0;
    if (*at >= file->size || b[*at] < '0' || b[*at] > '9') return false;
    while (*at < file->size && b[*at] >= '0' && b[*at] <= '9' && *value < 100000000) *value = *value * 10 + (uint32_t)(b[(*at)++] - '0');
    return true;
}

static const char *parse_pnm(const struct file *file, struct picture *p)
{
    size_t at = 2;
    uint32_t most;
    p->channels = file->bytes[1] == '6' ? 3 : 1;
    if (!pnm_number(file, &at, &p->width) || !pnm_number(file, &at, &p->height) || !pnm_number(file, &at, &most))
        return "has a broken header";
    if (most != 255 || p->width == 0 || p->height == 0 || p->width > 65535 || p->height > 65535)
        return "has samples of more than 8 bits or no usable size";
    at++;
    uint64_t bytes = (uint64_t)p->width * p->height * p->channels;
    if (at > file->size || file->size - at < bytes) return "is cut off";
    p->pixels = file->bytes + at;
    p->pixel_bytes = (ptrdiff_t)p->channels;
    p->row_bytes = (ptrdiff_t)(p->width * p->channels);
    p->bgr = false;
    return NULL;
}

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static const char *parse_bmp(const struct file *file, struct picture *p)
{
    const uint8_t *b = file->bytes;
    if (file->size < 54) return "is cut off";
    uint32_t start = load32(b + 10), width = load32(b + 18), bits = load32(b + 28) & 0xFFFF, compression = load32(b + 30);
    int32_t height = (int32_t)load32(b + 22);
    bool top_down = height < 0;
    if ((bits != 24 && bits != 32) || (compression != 0 && compression != 3))
        return "is a BMP of a kind that is not read (24 or 32 bits, uncompressed)";
    if (width == 0 || width > 65535 || height == 0 || height > 65535 || height < -65535) return "has no usable size";
    p->width = width;
    p->height = (uint32_t)(top_down ? -height : height);
    p->channels = 3;
    p->pixel_bytes = (ptrdiff_t)(bits / 8);
    uint64_t row = ((uint64_t)width * bits / 8 + 3) / 4 * 4;
    if (start > file->size || file->size - start < row * p->height) return "is cut off";
    p->row_bytes = top_down ? (ptrdiff_t)row : -(ptrdiff_t)row;
    p->pixels = b + start + (top_down ? 0 : row * (p->height - 1));
    p->bgr = true;
    return NULL;
}

/* Where the picture goes: [1, C, H, W] or [1, H, W, C], also without the batch. */
struct place {
    uint32_t width, height, channels;
    size_t x, y, c; /* elements between neighbours */
};

static bool place_of(const e8_tensor *t, struct place *p)
{
    if (t->rank < 3 || t->rank > 4 || (t->rank == 4 && t->dims[0] != 1)) return false;
    const int32_t *d = t->dims + t->rank - 3;
    bool first = (d[0] == 1 || d[0] == 3) && d[2] != 1 && d[2] != 3;
    if (!first && d[2] != 1 && d[2] != 3) return false;
    p->channels = (uint32_t)(first ? d[0] : d[2]);
    p->height = (uint32_t)(first ? d[1] : d[0]);
    p->width = (uint32_t)(first ? d[2] : d[1]);
    p->x = first ? 1 : p->channels;
    p->y = first ? p->width : (size_t)p->width * p->channels;
    p->c = first ? (size_t)p->width * p->height : 1;
    return true;
}

/* Sample of model channel c; grey from colour by the weights of ITU-R BT.601. */
static float sample(const struct picture *p, const uint8_t *pixel, uint32_t c, uint32_t channels, bool bgr)
{
    if (p->channels == 1) return (float)pixel[0];
    uint32_t red = p->bgr ? 2 : 0, blue = 2 - red;
    if (channels == 1) return 0.299f * (float)pixel[red] + 0.587f * (float)pixel[1] + 0.114f * (float)pixel[blue];
    if (c == 1) return (float)pixel[1];
    return (float)pixel[(c == 0) != bgr ? red : blue];
}

int read_picture(const char *path, const struct file *file, const e8_tensor *t, void *data, const struct picture_options *o)
{
    struct picture p;
    struct place to;
    char shape[128];
    const char *wrong = "is neither PPM, PGM nor BMP";
    if (file->size > 2 && file->bytes[0] == 'P' && (file->bytes[1] == '5' || file->bytes[1] == '6')) wrong = parse_pnm(file, &p);
    if (file->size > 2 && file->bytes[0] == 'B' && file->bytes[1] == 'M') wrong = parse_bmp(file, &p);
    if (wrong) return complain(EXIT_INPUT, "%s: %s", path, wrong);
    if ((t->type != E8_FLOAT32 && t->type != E8_UINT8) || !place_of(t, &to))
        return complain(EXIT_INPUT, "%s: input %s, %s %s, is not a picture", path, t->name, type_name(t->type),
                        shape_text(t, shape, sizeof shape));
    if (p.width != to.width || p.height != to.height)
        return complain(EXIT_INPUT, "%s: %u x %u pixels, but input %s takes %u x %u (scale it first: %s does not)", path, p.width, p.height,
                        t->name, to.width, to.height, program_name);
    for (uint32_t y = 0; y < to.height; y++) {
        for (uint32_t x = 0; x < to.width; x++) {
            const uint8_t *pixel = p.pixels + (ptrdiff_t)y * p.row_bytes + (ptrdiff_t)x * p.pixel_bytes;
            for (uint32_t c = 0; c < to.channels; c++) {
                size_t at = x * to.x + y * to.y + c * to.c;
                float value = sample(&p, pixel, c, to.channels, o->bgr);
                if (t->type == E8_UINT8)
                    ((uint8_t *)data)[at] = (uint8_t)(value + 0.5f);
                else
                    ((float *)data)[at] = (value - o->mean[c]) / o->std[c];
            }
        }
    }
    return EXIT_DONE;
}
