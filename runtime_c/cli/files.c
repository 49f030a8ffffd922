/* SPDX-License-Identifier: Apache-2.0
 *
 * Files in and out. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"

int complain(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return code;
}

int map_file(const char *path, int code, struct file *file)
{
    struct stat info;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return complain(code, "%s: %s", path, strerror(errno));
    if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(descriptor);
        return complain(code, "%s: not a regular file", path);
    }
    if (info.st_size == 0) {
        close(descriptor);
        return complain(code, "%s: the file is empty", path);
    }
    file->size = (size_t)info.st_size;
    void *address = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int error = errno;
    close(descriptor);
    if (address == MAP_FAILED) return complain(error == ENOMEM ? EXIT_MEMORY : code, "%s: cannot be mapped: %s", path, strerror(error));
    file->bytes = address;
    return EXIT_DONE;
}

void release_file(struct file *file)
{
    munmap((void *)(uintptr_t)file->bytes, file->size);
}

static bool write_all(int descriptor, const void *bytes, size_t size)
{
    const char *next = bytes;
    while (size > 0) {
        ssize_t done = write(descriptor, next, size);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        next += done;
        size -= (size_t)done;
    }
    return true;
}

/* Let the folder remember the name too; not every file system can. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + (slash == path) : 1;
    char *folder = malloc(length + 1);
    if (!folder) return;
    memcpy(folder, slash ? path : ".", length);
    folder[length] = 0;
    int descriptor = open(folder, O_RDONLY | O_CLOEXEC);
    if (descriptor >= 0) {
        (void)fsync(descriptor);
        close(descriptor);
    }
    free(folder);
}

int write_file(const char *path, const struct part *parts, size_t count)
{
    size_t length = strlen(path);
    char *temporary = malloc(length + 8);
    if (!temporary) return complain(EXIT_MEMORY, "out of memory");
    memcpy(temporary, path, length);
    memcpy(temporary + length, ".XXXXXX", 8);
    int descriptor = mkstemp(temporary), error = errno;
    bool good = descriptor >= 0;
    for (size_t i = 0; good && i < count; i++) good = write_all(descriptor, parts[i].bytes, parts[i].size);
    if (good) good = fchmod(descriptor, 0644) == 0 && fsync(descriptor) == 0;
    if (descriptor >= 0) {
        if (!good) error = errno;
        if (close(descriptor) != 0 && good) {
            good = false;
            error = errno;
        }
        if (good && rename(temporary, path) != 0) {
            good = false;
            error = errno;
        }
        if (!good) unlink(temporary);
        if (good) sync_folder(path);
    }
    free(temporary);
    return good ? EXIT_DONE : complain(EXIT_OUTPUT, "%s: cannot be written: %s", path, strerror(error));
}

const char *type_name(int32_t type)
{
    static const char *const names[] = {"float32", "int8", "int16", "int32", "int64", "bool", "uint8"};
    return type >= 0 && type < 7 ? names[type] : "unknown";
}

size_t type_width(int32_t type)
{
    static const size_t widths[] = {4, 1, 2, 4, 8, 1, 1};
    return type >= 0 && type < 7 ? widths[type] : 0;
}

uint64_t count_elements(const e8_tensor *t)
{
    return t->bytes / type_width(t->type);
}

const char *shape_text(const e8_tensor *t, char *text, size_t size)
{
    int used = snprintf(text, size, "[");
    for (int32_t i = 0; i < t->rank && used > 0 && (size_t)used < size; i++)
        used += snprintf(text + used, size - (size_t)used, i ? ", %d" : "%d", (int)t->dims[i]);
    if (used > 0 && (size_t)used < size) snprintf(text + used, size - (size_t)used, "]");
    return text;
}

bool big_endian(void)
{
    const uint16_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    return first == 0;
}

void swap_elements(void *bytes, size_t size, size_t width)
{
    uint8_t *p = bytes;
    for (size_t i = 0; width > 1 && i + width <= size; i += width) {
        for (size_t a = 0, b = width - 1; a < b; a++, b--) {
            uint8_t keep = p[i + a];
            p[i + a] = p[i + b];
            p[i + b] = keep;
        }
    }
}

bool ends_with(const char *path, const char *ending)
{
    size_t a = strlen(path), b = strlen(ending);
    return a >= b && strcmp(path + a - b, ending) == 0;
}

static int read_raw(const char *path, const struct file *file, const e8_tensor *t, void *data, uint32_t part, uint32_t *parts)
{
    char shape[128];
    bool fits = file->size == t->bytes || (parts && t->bytes > 0 && file->size % t->bytes == 0 && file->size / t->bytes <= UINT32_MAX);
    if (!fits)
        return complain(EXIT_INPUT, "%s: %zu bytes, but input %s is %s %s, which are %zu bytes", path, file->size, t->name,
                        type_name(t->type), shape_text(t, shape, sizeof shape), t->bytes);
    memcpy(data, file->bytes + (size_t)part * t->bytes, t->bytes);
    if (parts) *parts = (uint32_t)(file->size / t->bytes);
    if (big_endian()) swap_elements(data, t->bytes, type_width(t->type));
    return EXIT_DONE;
}

int read_part(const char *path, const e8_tensor *t, void *data, const struct picture_options *options, uint32_t part, uint32_t *parts)
{
    struct file file;
    int code = map_file(path, EXIT_INPUT, &file);
    if (code != EXIT_DONE) return code;
    if (parts) *parts = 1;
    if (ends_with(path, ".npy"))
        code = read_npy(path, &file, t, data, part, parts);
    else if (ends_with(path, ".ppm") || ends_with(path, ".pgm") || ends_with(path, ".bmp"))
        code = read_picture(path, &file, t, data, options);
    else
        code = read_raw(path, &file, t, data, part, parts);
    release_file(&file);
    return code;
}

int read_input(const char *path, const e8_tensor *t, void *data, const struct picture_options *options)
{
    return read_part(path, t, data, options, 0, NULL);
}

/* The header of format version 1.0: magic, header length, a Python dictionary padded with spaces to a multiple of 64. */
static size_t npy_header(const e8_tensor *t, char *header, size_t size)
{
    static const char *const descriptions[] = {"<f4", "|i1", "<i2", "<i4", "<i8", "|b1", "|u1"};
    char shape[128] = "";
    size_t used = 0;
    for (int32_t i = 0; i < t->rank; i++) used += (size_t)snprintf(shape + used, sizeof shape - used, "%d, ", (int)t->dims[i]);
    if (t->rank > 1) shape[used - 2] = 0;
    if (t->rank == 1) shape[used - 1] = 0;
    memset(header, ' ', size);
    int text = snprintf(header + 10, size - 10, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descriptions[t->type], shape);
    size_t total = (10 + (size_t)text + 1 + 63) / 64 * 64;
    header[10 + text] = ' ';
    header[total - 1] = '\n';
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)((total - 10) & 255);
    header[9] = (char)((total - 10) >> 8);
    return total;
}

int write_output(const char *path, const e8_tensor *t, const void *data)
{
    char header[512];
    size_t bytes = ends_with(path, ".npy") ? npy_header(t, header, sizeof header) : 0;
    void *swapped = NULL;
    if (big_endian() && type_width(t->type) > 1) {
        swapped = malloc(t->bytes);
        if (!swapped) return complain(EXIT_MEMORY, "out of memory for output %s", t->name);
        memcpy(swapped, data, t->bytes);
        swap_elements(swapped, t->bytes, type_width(t->type));
    }
    struct part parts[2] = {{header, bytes}, {swapped ? swapped : data, t->bytes}};
    int code = write_file(path, parts, 2);
    free(swapped);
    return code;
}
