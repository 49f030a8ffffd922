/* SPDX-License-Identifier: Apache-2.0
 *
 * Output and numbers: as much of stdio as the programs take. A stream is a descriptor with a buffer, or memory that grows. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alone.h"

struct stream {
    int descriptor; /* -1: memory */
    bool failed;
    size_t used, room;
    char *bytes, **text; /* text, size: what open_memstream was given */
    size_t *size;
};

static char out_bytes[4096];
static struct stream out = {.descriptor = 1, .room = sizeof out_bytes, .bytes = out_bytes};
static struct stream err = {.descriptor = 2};
FILE *stdout = (FILE *)(void *)&out, *stderr = (FILE *)(void *)&err;

static void write_through(struct stream *s, const char *bytes, size_t size)
{
    while (size > 0 && !s->failed) {
        ssize_t done = write(s->descriptor, bytes, size);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            s->failed = true;
        else
            bytes += done, size -= (size_t)done;
    }
}

int fflush(FILE *file)
{
    struct stream *s = (struct stream *)(void *)file;
    if (s->descriptor >= 0) {
        write_through(s, s->bytes, s->used);
        s->used = 0;
    }
    return s->failed ? EOF : 0;
}

static void put(struct stream *s, const char *bytes, size_t size)
{
    if (s->descriptor >= 0 && s->used + size > s->room) fflush((FILE *)(void *)s);
    if (s->descriptor < 0 && s->used + size + 1 > s->room) {
        size_t room = 2 * (s->used + size) + 256;
        char *larger = realloc(s->bytes, room);
        if (!larger) s->failed = true;
        if (s->failed) return;
        s->bytes = larger;
        s->room = room;
    }
    if (size > s->room) {
        write_through(s, bytes, size);
        return;
    }
    memcpy(s->bytes + s->used, bytes, size);
    s->used += size;
}

FILE *open_memstream(char **text, size_t *size)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    *s = (struct stream){.descriptor = -1, .text = text, .size = size};
    return (FILE *)(void *)s;
}

int fclose(FILE *file)
{
    struct stream *s = (struct stream *)(void *)file;
    bool failed = s->failed;
    put(s, "", 1);
    *s->text = s->bytes;
    *s->size = s->used ? s->used - 1 : 0;
    failed = failed || s->failed;
    free(s);
    return failed ? EOF : 0;
}

int fputc(int letter, FILE *file)
{
    char c = (char)letter;
    put((struct stream *)(void *)file, &c, 1);
    return letter;
}

int putchar(int letter)
{
    return fputc(letter, stdout);
}

int fputs(const char *text, FILE *file)
{
    struct stream *s = (struct stream *)(void *)file;
    put(s, text, strlen(text));
    return s->failed ? EOF : 0;
}

/* Where formatted text goes: a stream, or a buffer that is never overrun. */
struct target {
    struct stream *stream;
    char *buffer;
    size_t size, total;
};

static void emit(struct target *t, const char *bytes, size_t size)
{
    if (t->stream) put(t->stream, bytes, size);
    for (size_t i = 0; !t->stream && i < size; i++)
        if (t->total + i + 1 < t->size) t->buffer[t->total + i] = bytes[i];
    t->total += size;
}

static void emit_padded(struct target *t, const char *bytes, size_t size, bool negative, int width, bool left, bool zeros)
{
    size_t whole = size + negative, padding = width > 0 && (size_t)width > whole ? (size_t)width - whole : 0;
    if (negative && zeros) emit(t, "-", 1);
    for (size_t i = 0; !left && i < padding; i++) emit(t, zeros ? "0" : " ", 1);
    if (negative && !zeros) emit(t, "-", 1);
    emit(t, bytes, size);
    for (size_t i = 0; left && i < padding; i++) emit(t, " ", 1);
}

enum { DIGITS = 400 };

/* Digits of `value`, at least `least` of them, at the end of text[DIGITS]; gives where they start. */
static char *digits_of(char *text, uint64_t value, unsigned base, int least)
{
    char *at = text + DIGITS;
    for (; value || least > 0; value /= base, least--) *--at = "0123456789abcdef"[value % base];
    return at;
}

static double power_of_ten(int n)
{
    double power = 1;
    for (int i = n < 0 ? -n : n; i > 0; i--) power *= 10;
    return n < 0 ? 1 / power : power;
}

/* %f of a number that is not negative: exact where value * 10^precision stays below 2^53, which latencies and sizes do. */
static char *fixed_of(char *text, double value, int precision)
{
    if (!(value < 1e15)) value = 1e15; /* nothing that is printed here comes near */
    uint64_t whole = (uint64_t)value, unit = (uint64_t)power_of_ten(precision);
    double scaled = (value - (double)whole) * (double)unit;
    uint64_t part = (uint64_t)scaled;
    double rest = scaled - (double)part;
    if (rest > 0.5 || (rest == 0.5 && (part & 1))) part++;
    if (part >= unit) {
        whole++;
        part -= unit;
    }
    char *at = text + DIGITS;
    if (precision > 0) {
        at = digits_of(text, part, 10, precision);
        *--at = '.';
    }
    char digits[DIGITS], *first = digits_of(digits, whole, 10, 1);
    size_t count = (size_t)(digits + DIGITS - first);
    return memcpy(at - count, first, count);
}

/* %g of a positive number: up to `precision` significant digits. */
static char *general_of(char *text, double value, int precision)
{
    int exponent = 0;
    double scaled = value;
    for (; scaled >= 10; exponent++) scaled = value / power_of_ten(exponent + 1);
    for (; scaled < 1; exponent--) scaled = value * power_of_ten(1 - exponent);
    uint64_t digits = (uint64_t)(scaled * power_of_ten(precision - 1) + 0.5);
    if (digits >= (uint64_t)power_of_ten(precision)) {
        digits /= 10;
        exponent++;
    }
    int kept = precision;
    for (; kept > 1 && digits % 10 == 0; kept--) digits /= 10;
    char mantissa[DIGITS], *m = digits_of(mantissa, digits, 10, 1), *at = text;
    if (exponent < -4 || exponent >= precision) {
        *at++ = *m++;
        if (kept > 1) *at++ = '.';
        for (; m < mantissa + DIGITS; m++) *at++ = *m;
        *at++ = 'e';
        *at++ = exponent < 0 ? '-' : '+';
        char power[DIGITS], *p = digits_of(power, (uint64_t)(exponent < 0 ? -exponent : exponent), 10, 2);
        for (; p < power + DIGITS; p++) *at++ = *p;
    } else {
        int point = exponent + 1; /* digits before the point */
        if (point <= 0) *at++ = '0', *at++ = '.';
        for (int i = point; i < 0; i++) *at++ = '0';
        for (int i = 0; i < kept || i < point; i++) {
            if (i == point && point > 0) *at++ = '.';
            *at++ = i < kept ? *m++ : '0';
        }
    }
    size_t count = (size_t)(at - text);
    return memmove(text + DIGITS - count, text, count);
}

/* One conversion of a format. */
struct conversion {
    bool left, zeros;
    int width, precision, longs; /* longs: 0 int, 1 long or size_t, 2 long long */
};

static const char *parse_conversion(const char *f, struct conversion *c)
{
    *c = (struct conversion){.precision = -1};
    for (;; f++) {
        if (*f == '-')
            c->left = true;
        else if (*f == '0')
            c->zeros = true;
        else
            break;
    }
    for (; *f >= '0' && *f <= '9'; f++) c->width = 10 * c->width + *f - '0';
    if (*f == '.') {
        c->precision = 0;
        if (*++f == '*') c->precision = -2, f++;
        for (; *f >= '0' && *f <= '9'; f++) c->precision = 10 * c->precision + *f - '0';
    }
    for (; *f == 'l' || *f == 'z'; f++) c->longs++;
    return f;
}

static void convert_integer(struct target *t, const struct conversion *c, char kind, uint64_t bits)
{
    char text[DIGITS];
    bool negative = kind == 'd' && (int64_t)bits < 0;
    char *first = digits_of(text, negative ? 0 - bits : bits, kind == 'x' ? 16 : 10, 1);
    emit_padded(t, first, (size_t)(text + DIGITS - first), negative, c->width, c->left, c->zeros);
}

static void convert_real(struct target *t, const struct conversion *c, char kind, double value)
{
    char text[DIGITS], *first;
    bool negative = value < 0;
    if (!(value - value == 0)) {
        emit_padded(t, value != value ? "nan" : "inf", 3, negative, c->width, c->left, false);
        return;
    }
    double size = negative ? -value : value;
    int precision = c->precision < 0 ? 6 : c->precision;
    if (kind == 'f')
        first = fixed_of(text, size, precision);
    else if (size == 0)
        first = digits_of(text, 0, 10, 1);
    else
        first = general_of(text, size, precision ? precision : 1);
    emit_padded(t, first, (size_t)(text + DIGITS - first), negative, c->width, c->left, c->zeros);
}

static void format(struct target *t, const char *f, va_list arguments)
{
    struct conversion c;
    for (; *f; f++) {
        if (*f != '%') {
            emit(t, f, 1);
            continue;
        }
        f = parse_conversion(f + 1, &c);
        if (c.precision == -2) c.precision = va_arg(arguments, int);
        if (*f == 's') {
            const char *text = va_arg(arguments, const char *);
            size_t length = 0;
            while ((c.precision < 0 || length < (size_t)c.precision) && text[length]) length++;
            emit_padded(t, text, length, false, c.width, c.left, false);
        } else if (*f == 'f' || *f == 'g') {
            convert_real(t, &c, *f, va_arg(arguments, double));
        } else if (*f == 'c') {
            char letter = (char)va_arg(arguments, int);
            emit(t, &letter, 1);
        } else if (*f == 'd') {
            long long value = c.longs > 1 ? va_arg(arguments, long long) : c.longs ? va_arg(arguments, long) : va_arg(arguments, int);
            convert_integer(t, &c, 'd', (uint64_t)value);
        } else if (*f == 'u' || *f == 'x') {
            uint64_t value = c.longs > 1 ? va_arg(arguments, unsigned long long)
                             : c.longs   ? va_arg(arguments, unsigned long)
                                         : va_arg(arguments, unsigned);
            convert_integer(t, &c, *f, value);
        } else {
            emit(t, f, 1);
        }
    }
}

int vfprintf(FILE *file, const char *text, va_list arguments)
{
    struct target t = {.stream = (struct stream *)(void *)file};
    format(&t, text, arguments);
    return t.stream->failed ? -1 : (int)t.total;
}

int fprintf(FILE *file, const char *text, ...)
{
    va_list arguments;
    va_start(arguments, text);
    int count = vfprintf(file, text, arguments);
    va_end(arguments);
    return count;
}

int printf(const char *text, ...)
{
    va_list arguments;
    va_start(arguments, text);
    int count = vfprintf(stdout, text, arguments);
    va_end(arguments);
    return count;
}

int snprintf(char *buffer, size_t size, const char *text, ...)
{
    struct target t = {.buffer = buffer, .size = size};
    va_list arguments;
    va_start(arguments, text);
    format(&t, text, arguments);
    va_end(arguments);
    if (size) buffer[t.total < size ? t.total : size - 1] = 0;
    return (int)t.total;
}

unsigned long long strtoull(const char *text, char **end, int base)
{
    unsigned long long value = 0;
    bool over = false;
    if ((base == 0 || base == 16) && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) text += 2, base = 16;
    if (base == 0) base = 10;
    for (;; text++) {
        int digit = *text >= '0' && *text <= '9' ? *text - '0' : (*text | 32) >= 'a' && (*text | 32) <= 'f' ? (*text | 32) - 'a' + 10 : 99;
        if (digit >= base) break;
        over = over || __builtin_mul_overflow(value, (unsigned)base, &value) || __builtin_add_overflow(value, (unsigned)digit, &value);
    }
    if (over) errno = ERANGE;
    if (end) *end = (char *)(uintptr_t)text;
    return over ? ~0ull : value;
}

long strtol(const char *text, char **end, int base)
{
    bool negative = *text == '-';
    return (long)(negative ? 0 - strtoull(text + 1, end, base) : strtoull(text, end, base));
}

/* Exact for what people write: up to 15 digits and a power of ten up to 22. */
float strtof(const char *text, char **end)
{
    const char *at = text;
    bool negative = *at == '-', some = false;
    double value = 0;
    int exponent = 0;
    if (*at == '-' || *at == '+') at++;
    for (; *at >= '0' && *at <= '9'; at++, some = true) value = 10 * value + (*at - '0');
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++, some = true, exponent--) value = 10 * value + (*at - '0');
    if (some && (*at | 32) == 'e' && ((at[1] >= '0' && at[1] <= '9') || ((at[1] == '-' || at[1] == '+') && at[2] >= '0' && at[2] <= '9'))) {
        char *after;
        long power = strtol(at + 1 + (at[1] == '+'), &after, 10);
        exponent += power > 400 ? 400 : power < -400 ? -400 : (int)power;
        at = after;
    }
    value = exponent < 0 ? value / power_of_ten(-exponent) : value * power_of_ten(exponent);
    if (end) *end = (char *)(uintptr_t)(some ? at : text);
    return some ? (float)(negative ? -value : value) : 0;
}

char *strerror(int number)
{
    static const struct {
        int number;
        const char *text;
    } texts[] = {
        {EPERM, "Operation not permitted"},
        {ENOENT, "No such file or directory"},
        {EIO, "Input/output error"},
        {ENOMEM, "Cannot allocate memory"},
        {EACCES, "Permission denied"},
        {EBUSY, "Device or resource busy"},
        {EEXIST, "File exists"},
        {EXDEV, "Invalid cross-device link"},
        {ENODEV, "No such device"},
        {ENOTDIR, "Not a directory"},
        {EISDIR, "Is a directory"},
        {EINVAL, "Invalid argument"},
        {ENFILE, "Too many open files in system"},
        {EMFILE, "Too many open files"},
        {EFBIG, "File too large"},
        {ENOSPC, "No space left on device"},
        {EROFS, "Read-only file system"},
        {EPIPE, "Broken pipe"},
        {ENAMETOOLONG, "File name too long"},
        {ENOTEMPTY, "Directory not empty"},
        {ELOOP, "Too many levels of symbolic links"},
        {EOVERFLOW, "Value too large"},
        {EDQUOT, "Disk quota exceeded"},
    };
    static char other[32];
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].number == number) return (char *)(uintptr_t)texts[i].text;
    snprintf(other, sizeof other, "system error %d", number);
    return other;
}
