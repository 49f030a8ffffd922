/* SPDX-License-Identifier: Apache-2.0
 *
 * edge8-run: run a model on a board, on inputs from files, and measure it. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "edge8_pool.h"
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

struct options {
    const char *model, *output, *record, *cores;
    const char *inputs[64];
    uint32_t input_count, threads, bench;
    bool ops, info;
    struct picture_options picture;
};

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
}

static int stop_when_asked(void *context, uint32_t op, int after)
{
    (void)context;
    (void)op;
    (void)after;
    return caught != 0;
}

static int whole_number(const char *name, const char *text, uint32_t most, uint32_t *value)
{
    char *end;
    errno = 0;
    unsigned long long number = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 0) : 0;
    if (!text || *text < '0' || *text > '9' || *end != 0 || errno != 0 || number > most)
        return complain(EXIT_USAGE, "%s takes a whole number of at most %u, got %s", name, most, text ? text : "nothing");
    *value = (uint32_t)number;
    return EXIT_DONE;
}

/* "a,b,c", or one number for all. */
static int three_numbers(const char *name, const char *text, bool zero, float values[3])
{
    const char *at = text;
    int count = 0;
    while (at && *at && count < 3) {
        char *end;
        values[count] = strtof(at, &end);
        if (end == at || (!zero && values[count] == 0.0f)) break;
        count++;
        at = *end == ',' ? end + 1 : end;
        if (*end != ',') break;
    }
    if (!at || *at || (count != 1 && count != 3))
        return complain(EXIT_USAGE, "%s takes one or three numbers%s, such as 127.5,127.5,127.5", name, zero ? "" : " that are not 0");
    if (count == 1) values[1] = values[2] = values[0];
    return EXIT_DONE;
}

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

static int refuse(const char *path, e8_status status, const e8_diag *diag)
{
    char place[64] = "";
    if (status == E8_ERR_VERSION)
        return complain(EXIT_MODEL, "%s: the file was written for a newer edge8 than this %s: update edge8-run", path, e8_version());
    if (diag->op != 0xFFFFFFFFu)
        snprintf(place, sizeof place, ", operator %u", diag->op);
    else if (diag->tensor != 0xFFFFFFFFu)
        snprintf(place, sizeof place, ", tensor %u", diag->tensor);
    return complain(EXIT_MODEL, "%s: %s (rule %s%s)", path, e8_status_text(status), diag->rule ? diag->rule : "", place);
}

static int open_model(struct runner *r, const struct file *file)
{
    e8_diag diag = {0xFFFFFFFFu, 0xFFFFFFFFu, ""};
    uint64_t begin = e8_clock_ns(NULL);
    e8_status status = e8_model_open(&r->model, file->bytes, file->size, NULL, &diag);
    if (status != E8_OK) return refuse(r->model_path, status, &diag);
    r->open_ms = (double)(e8_clock_ns(NULL) - begin) * 1e-6;
    r->file_bytes = file->size;
    r->arena_bytes = e8_model_arena(&r->model, r->threads);
    return EXIT_DONE;
}

static int open_session(struct runner *r)
{
    uint64_t free_bytes = available_memory();
    if (r->arena_bytes > free_bytes)
        return complain(EXIT_MEMORY, "%s needs %.1f MB of memory for its activations, and the system has %.1f MB left", r->model_path,
                        (double)r->arena_bytes * 1e-6, (double)free_bytes * 1e-6);
    if (posix_memalign(&r->arena, 64, r->arena_bytes) != 0)
        return complain(EXIT_MEMORY, "%s needs %.1f MB of memory for its activations, which the system refuses", r->model_path,
                        (double)r->arena_bytes * 1e-6);
    e8_status status = e8_session_init(&r->session, &r->model, r->arena, r->arena_bytes, r->threads);
    if (status != E8_OK) return complain(EXIT_RUN, "%s: %s", r->model_path, e8_status_text(status));
    e8_session_hook(&r->session, stop_when_asked, NULL);
    return EXIT_DONE;
}

int run_once(struct runner *r)
{
    e8_status status = e8_session_run(&r->session);
    if (status == E8_ERR_STOPPED) return complain(128 + (int)caught, "stopped by signal %d; nothing was written", (int)caught);
    return status == E8_OK ? EXIT_DONE : complain(EXIT_RUN, "%s: %s", r->model_path, e8_status_text(status));
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
    if (code != EXIT_DONE) return code;
    e8_pool *pool = r->threads > 1 ? e8_pool_create(r->threads) : NULL;
    if (r->threads > 1 && !pool) return complain(EXIT_MEMORY, "no threads are to be had");
    if (pool) e8_session_parallel(&r->session, e8_pool_run, pool);
    code = read_inputs(r, o);
    if (code == EXIT_DONE && o->bench > 0) code = measure(r, o->bench, o->ops, o->record);
    if (code == EXIT_DONE && (o->input_count > 0 || o->bench == 0)) {
        code = run_once(r);
        if (code == EXIT_DONE) code = report_outputs(r, o);
    }
    e8_pool_destroy(pool);
    free(r->arena);
    return code;
}

int main(int count, char **arguments)
{
    struct options o = {.threads = 1, .picture = {.mean = {0, 0, 0}, .std = {1, 1, 1}}};
    struct runner r = {0};
    struct file file;
    struct sigaction action = {.sa_handler = on_signal};
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0) return fputs(USAGE, stdout) < 0;
        if (strcmp(arguments[i], "--version") == 0) return printf("edge8-run %s, kernels %s\n", e8_version(), e8_cpu_level()) < 0;
    }
    int code = parse(count, arguments, &o);
    if (code != EXIT_DONE) return code;
    if (o.cores && (code = pin_cores(o.cores)) != EXIT_DONE) return code;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
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
