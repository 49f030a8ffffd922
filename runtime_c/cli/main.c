/* SPDX-License-Identifier: Apache-2.0
 *
 * edge8-run: run a model on a board, on inputs from files, and measure it. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static const char USAGE[] = "usage: edge8-run MODEL.e8 [INPUT ...] [options]\n"
                            "\n"
                            "Runs a model once on its inputs (files in the model's order: .npy, raw little-endian data, or a\n"
                            "picture .ppm .pgm .bmp), prints a digest of each output, and writes them with -o.\n"
                            "\n"
                            "  -o FILE           write the output; .npy or raw. Several outputs: FILE-0, FILE-1, ...\n"
                            "  --threads N       threads (1)\n"
                            "  --bench N         measure N runs; without inputs on noise\n"
                            "  --ops             with --bench: a table of the operators\n"
                            "  --record FILE     with --bench: write a JSON record for `edge8 bench --compare`\n"
                            "  --cores LIST      keep to cores: numbers such as 0,1, or big, or little\n"
                            "  --mean R,G,B --std R,G,B --bgr\n"
                            "                    pictures: input = (pixel - mean) / std, channels reversed with --bgr\n"
                            "  --features MASK   use only these instruction sets (numbers of e8_cpu_features in edge8.h)\n"
                            "  --info            describe the model and stop\n"
                            "  --version         version and kernel level\n"
                            "\n"
                            "exit code: 0 done, 2 usage, 3 model refused, 4 input unusable, 5 out of memory, 6 output not written,\n"
                            "7 the run failed, 128 + N ended by signal N\n";

const char program_name[] = "edge8-run";

struct options {
    const char *model, *output, *record, *cores;
    const char *inputs[64];
    uint32_t input_count, threads, bench;
    bool ops, info;
    struct picture_options picture;
};

static int parse_features(const char *text)
{
    uint32_t mask;
    int code = whole_number("--features", text, UINT32_MAX, &mask);
    if (code == EXIT_DONE) e8_cpu_restrict(mask);
    return code;
}

/* An option with its value; *used tells whether the value was taken. */
static int parse_option(struct options *o, const char *name, const char *value, bool *used)
{
    *used = true;
    if (strcmp(name, "--threads") == 0) return whole_number(name, value, 256, &o->threads);
    if (strcmp(name, "--bench") == 0) return whole_number(name, value, 10000000, &o->bench);
    if (strcmp(name, "--mean") == 0) return three_numbers(name, value, true, o->picture.mean);
    if (strcmp(name, "--std") == 0) return three_numbers(name, value, false, o->picture.std);
    if (strcmp(name, "--features") == 0) return parse_features(value);
    const char **text = strcmp(name, "-o") == 0         ? &o->output
                        : strcmp(name, "--record") == 0 ? &o->record
                        : strcmp(name, "--cores") == 0  ? &o->cores
                                                        : NULL;
    if (text) {
        *text = value;
        return value ? EXIT_DONE : complain(EXIT_USAGE, "%s needs a value", name);
    }
    *used = false;
    bool *flag = strcmp(name, "--ops") == 0    ? &o->ops
                 : strcmp(name, "--info") == 0 ? &o->info
                 : strcmp(name, "--bgr") == 0  ? &o->picture.bgr
                                               : NULL;
    if (!flag) return complain(EXIT_USAGE, "unknown option %s (edge8-run --help)", name);
    *flag = true;
    return EXIT_DONE;
}

static int parse(int count, char **arguments, struct options *o)
{
    for (int i = 1; i < count; i++) {
        const char *a = arguments[i];
        if (a[0] == '-' && a[1] != 0) {
            bool used;
            int code = parse_option(o, a, i + 1 < count ? arguments[i + 1] : NULL, &used);
            if (code != EXIT_DONE) return code;
            i += used;
        } else if (!o->model) {
            o->model = a;
        } else if (o->input_count == sizeof o->inputs / sizeof o->inputs[0]) {
            return complain(EXIT_USAGE, "too many inputs");
        } else {
            o->inputs[o->input_count++] = a;
        }
    }
    if (!o->model) return complain(EXIT_USAGE, "no model given (edge8-run --help)");
    if (o->threads == 0) return complain(EXIT_USAGE, "--threads must be at least 1");
    if ((o->ops || o->record) && o->bench == 0) return complain(EXIT_USAGE, "--ops and --record belong to --bench N");
    return EXIT_DONE;
}

static void describe(const struct runner *r)
{
    static const char *const sides[] = {"input", "output"};
    printf("%s: %zu bytes, %u operators, %.2f MMAC, arena %zu bytes, %s\n", r->model_path, r->file_bytes, e8_model_ops(&r->model),
           (double)e8_model_macs(&r->model) * 1e-6, r->arena_bytes,
           e8_model_calibrated(&r->model) ? "calibrated" : "not calibrated (computes in float32)");
    for (int io = 0; io < 2; io++) {
        for (uint32_t i = 0; i < e8_model_count(&r->model, (e8_io)io); i++) {
            e8_tensor t;
            char shape[128];
            (void)e8_model_io(&r->model, (e8_io)io, i, &t);
            printf("%s %s %s %s (%zu bytes)", sides[io], t.name, type_name(t.type), shape_text(&t, shape, sizeof shape), t.bytes);
            if (t.scale > 0.0f) printf(", scale %.9g, zero point %d", (double)t.scale, (int)t.zero_point);
            putchar('\n');
        }
    }
}

/* Noise for a measurement without inputs: small floats, any bytes, zeros for indices. */
static void fill_noise(struct runner *r)
{
    uint32_t state = 12345;
    for (uint32_t i = 0; i < e8_model_count(&r->model, E8_INPUT); i++) {
        e8_tensor t;
        (void)e8_model_io(&r->model, E8_INPUT, i, &t);
        void *data = e8_session_data(&r->session, E8_INPUT, i);
        bool bytes = t.type == E8_INT8 || t.type == E8_UINT8;
        for (uint64_t k = 0; k < count_elements(&t) && (bytes || t.type == E8_FLOAT32); k++) {
            state = state * 1664525u + 1013904223u;
            if (bytes)
                ((uint8_t *)data)[k] = (uint8_t)(state >> 24);
            else
                ((float *)data)[k] = (float)(int32_t)state * (1.0f / 1073741824.0f);
        }
    }
}

static int read_inputs(struct runner *r, const struct options *o)
{
    uint32_t wanted = e8_model_count(&r->model, E8_INPUT);
    if (o->input_count == 0 && o->bench > 0) {
        fill_noise(r);
        return EXIT_DONE;
    }
    if (o->input_count != wanted)
        return complain(EXIT_USAGE, "%s has %u input(s), %u file(s) given (edge8-run %s --info)", r->model_path, wanted, o->input_count,
                        r->model_path);
    for (uint32_t i = 0; i < wanted; i++) {
        e8_tensor t;
        (void)e8_model_io(&r->model, E8_INPUT, i, &t);
        int code = read_input(o->inputs[i], &t, e8_session_data(&r->session, E8_INPUT, i), &o->picture);
        if (code != EXIT_DONE) return code;
    }
    return EXIT_DONE;
}

/* CRC-32C of little-endian elements: the same on every machine. */
static uint32_t digest(const e8_tensor *t, const uint8_t *bytes)
{
    uint32_t crc = 0xFFFFFFFFu;
    size_t width = type_width(t->type);
    for (size_t i = 0; i < t->bytes; i++) {
        size_t at = big_endian() ? i / width * width + (width - 1 - i % width) : i;
        crc ^= bytes[at];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1u ? 0x82F63B78u : 0);
    }
    return ~crc;
}

static int report_outputs(struct runner *r, const struct options *o)
{
    uint32_t count = e8_model_count(&r->model, E8_OUTPUT);
    for (uint32_t i = 0; i < count; i++) {
        e8_tensor t;
        char shape[128], path[4096];
        (void)e8_model_io(&r->model, E8_OUTPUT, i, &t);
        const void *data = e8_session_data(&r->session, E8_OUTPUT, i);
        printf("output %s %s %s crc32c %08x\n", t.name, type_name(t.type), shape_text(&t, shape, sizeof shape), digest(&t, data));
        if (!o->output) continue;
        const char *dot = strrchr(o->output, '.');
        int stem = dot ? (int)(dot - o->output) : (int)strlen(o->output);
        int used = count == 1 ? snprintf(path, sizeof path, "%s", o->output)
                              : snprintf(path, sizeof path, "%.*s-%u%s", stem, o->output, i, dot ? dot : "");
        if (used < 0 || (size_t)used >= sizeof path) return complain(EXIT_USAGE, "the name of the output is too long");
        int code = write_output(path, &t, data);
        if (code != EXIT_DONE) return code;
    }
    return EXIT_DONE;
}

static int work(struct runner *r, const struct options *o)
{
    int code = open_session(r);
    if (code == EXIT_DONE) code = read_inputs(r, o);
    if (code == EXIT_DONE && o->bench > 0) code = measure(r, o->bench, o->ops, o->record);
    if (code == EXIT_DONE && (o->input_count > 0 || o->bench == 0)) {
        code = run_once(r);
        if (code == EXIT_DONE) code = report_outputs(r, o);
    }
    close_session(r);
    return code;
}

int main(int count, char **arguments)
{
    struct options o = {.threads = 1, .picture = {.mean = {0, 0, 0}, .std = {1, 1, 1}}};
    struct runner r = {0};
    struct file file;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0) return fputs(USAGE, stdout) < 0;
        if (strcmp(arguments[i], "--version") == 0) return printf("edge8-run %s, kernels %s\n", e8_version(), e8_cpu_level()) < 0;
    }
    int code = parse(count, arguments, &o);
    if (code != EXIT_DONE) return code;
    if (o.cores && (code = pin_cores(o.cores)) != EXIT_DONE) return code;
    catch_signals(false);
    r.model_path = o.model;
    r.threads = o.threads;
    code = map_file(o.model, EXIT_MODEL, &file);
    if (code != EXIT_DONE) return code;
    code = open_model(&r, &file);
    if (code == EXIT_DONE && o.info)
        describe(&r);
    else if (code == EXIT_DONE)
        code = work(&r, &o);
    release_file(&file);
    if (fflush(stdout) != 0 && code == EXIT_DONE) return complain(EXIT_OUTPUT, "the output cannot be written: %s", strerror(errno));
    return code;
}
