/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "samples.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int add_path(struct list *list, const char *folder, const char *name)
{
    size_t length = strlen(folder) + strlen(name) + 2;
    char *path = malloc(length);
    char **paths = realloc(list->paths, (list->count + 1) * sizeof *paths);
    if (paths) list->paths = paths;
    if (!path || !paths) {
        free(path);
        return complain(EXIT_MEMORY, "out of memory for the list of samples");
    }
    snprintf(path, length, "%s%s%s", folder, *folder ? "/" : "", name);
    list->paths[list->count++] = path;
    return EXIT_DONE;
}

static bool is_sample(const char *name)
{
    static const char *const endings[] = {".npy", ".npz", ".bin", ".raw", ".ppm", ".pgm", ".bmp"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (ends_with(name, endings[i])) return true;
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_folder(struct list *list, const char *path)
{
    size_t first = list->count;
    DIR *folder = opendir(path);
    if (!folder) return complain(EXIT_INPUT, "%s: %s", path, strerror(errno));
    int code = EXIT_DONE;
    for (struct dirent *entry; code == EXIT_DONE && (entry = readdir(folder));)
        if (is_sample(entry->d_name)) code = add_path(list, path, entry->d_name);
    closedir(folder);
    if (code != EXIT_DONE) return code;
    if (list->count == first) return complain(EXIT_INPUT, "%s: no .npy, .bin, .raw, .ppm, .pgm or .bmp file in this folder", path);
    qsort(list->paths + first, list->count - first, sizeof *list->paths, by_name);
    return EXIT_DONE;
}

/* The list that an argument belongs to, and its path. */
static struct list *list_of(const e8_model *model, const struct samples *samples, const char *argument, const char **path)
{
    const char *equals = strchr(argument, '=');
    for (uint32_t i = 0; equals && i < samples->inputs; i++) {
        e8_tensor t;
        (void)e8_model_io(model, E8_INPUT, i, &t);
        *path = equals + 1;
        if (strlen(t.name) == (size_t)(equals - argument) && memcmp(t.name, argument, (size_t)(equals - argument)) == 0)
            return &samples->lists[i];
    }
    *path = argument;
    return samples->inputs == 1 ? samples->lists : NULL;
}

static int add_argument(const e8_model *model, const struct samples *samples, const char *argument)
{
    struct stat info;
    const char *path;
    struct list *list = list_of(model, samples, argument, &path);
    if (!list)
        return complain(EXIT_USAGE, "%s: the model has %u inputs; write NAME=FOLDER for each (--info lists their names)", argument,
                        samples->inputs);
    if (stat(path, &info) != 0) return complain(EXIT_INPUT, "%s: %s", path, strerror(errno));
    return S_ISDIR(info.st_mode) ? add_folder(list, path) : add_path(list, "", path);
}

int list_samples(const e8_model *model, const char *const *arguments, size_t count, struct samples *samples)
{
    samples->inputs = e8_model_count(model, E8_INPUT);
    samples->lists = calloc(samples->inputs, sizeof *samples->lists);
    if (!samples->lists) return complain(EXIT_MEMORY, "out of memory for the list of samples");
    for (size_t i = 0; i < count; i++) {
        int code = add_argument(model, samples, arguments[i]);
        if (code != EXIT_DONE) return code;
    }
    for (uint32_t i = 1; i < samples->inputs; i++) {
        e8_tensor a, b;
        (void)e8_model_io(model, E8_INPUT, 0, &a);
        (void)e8_model_io(model, E8_INPUT, i, &b);
        if (samples->lists[i].count != samples->lists[0].count)
            return complain(EXIT_INPUT, "%zu files for input %s, but %zu for input %s; files are paired by their sorted names",
                            samples->lists[0].count, a.name, samples->lists[i].count, b.name);
    }
    return EXIT_DONE;
}

void release_samples(struct samples *samples)
{
    for (uint32_t i = 0; samples->lists && i < samples->inputs; i++) {
        for (size_t k = 0; k < samples->lists[i].count; k++) free(samples->lists[i].paths[k]);
        free(samples->lists[i].paths);
    }
    free(samples->lists);
}

static bool all_finite(const e8_tensor *t, const void *data)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; t->type == E8_FLOAT32 && i < t->bytes; i += 4) {
        uint32_t bits;
        memcpy(&bits, bytes + i, 4);
        if ((bits >> 23 & 255u) == 255u) return false;
    }
    return true;
}

int read_sample(struct runner *r, const struct samples *samples, const struct picture_options *options, size_t i, uint32_t part,
                uint32_t *parts)
{
    for (uint32_t k = 0; k < samples->inputs; k++) {
        e8_tensor t;
        uint32_t runs;
        const char *path = samples->lists[k].paths[i];
        void *data = e8_session_data(&r->session, E8_INPUT, k);
        (void)e8_model_io(&r->model, E8_INPUT, k, &t);
        if (ends_with(path, ".npz")) return complain(EXIT_INPUT, "%s: .npz is not read here; save each array as a .npy file", path);
        if (k > 0 && part >= *parts) return complain(EXIT_INPUT, "%s: holds other than %u runs", path, *parts);
        int code = read_part(path, &t, data, options, part, &runs);
        if (code != EXIT_DONE) return code;
        if (k > 0 && runs != *parts) return complain(EXIT_INPUT, "%s: holds %u runs, other inputs hold %u", path, runs, *parts);
        if (!all_finite(&t, data)) return complain(EXIT_INPUT, "%s: NaN or infinity in the data of input %s", path, t.name);
        *parts = runs;
    }
    return EXIT_DONE;
}
