/* SPDX-License-Identifier: Apache-2.0
 *
 * Latency on this machine, as text and as a record that `edge8 bench --compare` reads. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "edge8_pool.h"
#include "run.h"

struct latencies {
    double *ms;
    uint32_t count;
    double first, mean;
};

/* Copies of the inputs, since a run may overwrite them. */
static void **save_inputs(struct runner *r, uint32_t count)
{
    void **copies = calloc(count + 1, sizeof *copies);
    for (uint32_t i = 0; copies && i < count; i++) {
        e8_tensor t;
        (void)e8_model_io(&r->model, E8_INPUT, i, &t);
        copies[i] = malloc(t.bytes + 1);
        if (!copies[i]) return NULL;
        memcpy(copies[i], e8_session_data(&r->session, E8_INPUT, i), t.bytes);
    }
    return copies;
}

static void restore_inputs(struct runner *r, void *const *copies, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        e8_tensor t;
        (void)e8_model_io(&r->model, E8_INPUT, i, &t);
        memcpy(e8_session_data(&r->session, E8_INPUT, i), copies[i], t.bytes);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of sorted values, with linear interpolation. */
static double percentile(const struct latencies *l, double percent)
{
    double at = percent / 100 * (l->count - 1);
    uint32_t low = (uint32_t)at, high = low + 1 < l->count ? low + 1 : low;
    return l->ms[low] + (at - low) * (l->ms[high] - l->ms[low]);
}

static int time_runs(struct runner *r, struct latencies *l, void *const *copies, uint32_t inputs)
{
    double sum = 0;
    for (uint32_t i = 0; i <= l->count; i++) {
        restore_inputs(r, copies, inputs);
        uint64_t begin = e8_clock_ns(NULL);
        int code = run_once(r);
        if (code != EXIT_DONE) return code;
        double ms = (double)(e8_clock_ns(NULL) - begin) * 1e-6;
        if (i == 0) {
            l->first = ms;
        } else {
            l->ms[i - 1] = ms;
            sum += ms;
        }
    }
    l->mean = sum / l->count;
    qsort(l->ms, l->count, sizeof l->ms[0], compare_doubles);
    return EXIT_DONE;
}

/* Mean milliseconds of each operator. */
static int time_ops(struct runner *r, double *ms, uint32_t runs, void *const *copies, uint32_t inputs)
{
    uint32_t count = e8_model_ops(&r->model);
    uint64_t *ticks = calloc(count, sizeof *ticks);
    if (!ticks) return complain(EXIT_MEMORY, "out of memory");
    e8_session_times(&r->session, e8_clock_ns, NULL, ticks);
    int code = EXIT_DONE;
    for (uint32_t i = 0; code == EXIT_DONE && i < runs; i++) {
        restore_inputs(r, copies, inputs);
        code = run_once(r);
    }
    e8_session_times(&r->session, NULL, NULL, NULL);
    for (uint32_t i = 0; i < count; i++) ms[i] = (double)ticks[i] * 1e-6 / runs;
    free(ticks);
    return code;
}

static void print_ops(const struct runner *r, const double *ms)
{
    double total = 0;
    for (uint32_t i = 0; i < e8_model_ops(&r->model); i++) total += ms[i];
    printf("\n%-20s %9s %6s %8s  %s\n", "operator", "ms", "%", "GMAC/s", "node");
    for (uint32_t i = 0; i < e8_model_ops(&r->model); i++) {
        e8_op op;
        (void)e8_model_op(&r->model, i, &op);
        printf("%-20s %9.4f %6.1f %8.2f  %s\n", op.kind, ms[i], total > 0 ? 100 * ms[i] / total : 0,
               ms[i] > 0 ? (double)op.macs / ms[i] * 1e-6 : 0, op.name);
    }
}

/* Text between quotes in JSON. */
static void json_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static long peak_resident(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss * 1024 : 0;
}

/* What /proc/cpuinfo calls the processor or the board; it may be "". */
static void processor_name(char *name, size_t size)
{
    static const char *const keys[] = {"\nmodel name", "\nModel", "\nHardware"};
    char text[8192];
    const char *at = NULL;
    read_start("/proc/cpuinfo", text, sizeof text);
    for (size_t i = 0; !at && i < sizeof keys / sizeof keys[0]; i++) at = strstr(text, keys[i]);
    if (at) at = strchr(at, ':');
    size_t length = 0;
    for (at = at ? at + 1 : ""; *at == ' '; at++) {
    }
    while (length + 1 < size && at[length] && at[length] != '\n') length++;
    memcpy(name, at, length);
    name[length] = 0;
}

static void json_machine(FILE *out)
{
    char name[200];
    processor_name(name, sizeof name);
    fputs("\"machine\": {\"processor\": ", out);
    json_text(out, name);
    double celsius = temperature();
    long clock = frequency(0, "scaling_cur_freq");
    fprintf(out, ", \"temperature_c\": ");
    if (celsius < 0)
        fprintf(out, "null");
    else
        fprintf(out, "%.1f", celsius);
    fprintf(out, ", \"frequency_khz\": ");
    if (clock < 0)
        fprintf(out, "null},\n");
    else
        fprintf(out, "%ld},\n", clock);
}

static int write_record(const char *path, const struct runner *r, const struct latencies *l, const double *ms)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return complain(EXIT_MEMORY, "out of memory");
    const char *slash = strrchr(r->model_path, '/');
    fputs("{\"model\": ", out);
    json_text(out, slash ? slash + 1 : r->model_path);
    fprintf(out, ", \"crc\": \"%08x\", \"file_bytes\": %zu, \"macs\": %llu, \"calibrated\": %s,\n", e8_model_crc(&r->model), r->file_bytes,
            (unsigned long long)e8_model_macs(&r->model), e8_model_calibrated(&r->model) ? "true" : "false");
    fprintf(out, "\"edge8\": \"%s\", \"level\": \"%s\", \"threads\": %u,\n", e8_version(), e8_cpu_level(), r->threads);
    json_machine(out);
    fprintf(out, "\"open_ms\": %.4f, \"first_run_ms\": %.4f, \"runs\": %u,\n", r->open_ms, l->first, l->count);
    fprintf(out, "\"latency_ms\": {\"min\": %.4f, \"mean\": %.4f, \"p50\": %.4f, \"p90\": %.4f, \"p99\": %.4f, \"max\": %.4f},\n", l->ms[0],
            l->mean, percentile(l, 50), percentile(l, 90), percentile(l, 99), l->ms[l->count - 1]);
    fprintf(out, "\"arena_bytes\": %zu, \"peak_resident_bytes\": %ld,\n\"ops\": [", r->arena_bytes, peak_resident());
    for (uint32_t i = 0; i < e8_model_ops(&r->model); i++) {
        e8_op op;
        (void)e8_model_op(&r->model, i, &op);
        fprintf(out, "%s\n{\"kind\": \"%s\", \"name\": ", i ? "," : "", op.kind);
        json_text(out, op.name);
        fprintf(out, ", \"macs\": %llu, \"ms\": %.6f}", (unsigned long long)op.macs, ms[i]);
    }
    fputs("\n]}\n", out);
    if (fclose(out) != 0) return complain(EXIT_MEMORY, "out of memory");
    struct part part = {text, size};
    int code = write_file(path, &part, 1);
    free(text);
    return code;
}

static void print_latencies(const struct runner *r, const struct latencies *l)
{
    printf("%s: %.1f MMAC, %.2f MB, level %s, %u thread(s)\n", r->model_path, (double)e8_model_macs(&r->model) * 1e-6,
           (double)r->file_bytes * 1e-6, e8_cpu_level(), r->threads);
    printf("latency ms: min %.3f  p50 %.3f  p90 %.3f  p99 %.3f  max %.3f  (%u runs)\n", l->ms[0], percentile(l, 50), percentile(l, 90),
           percentile(l, 99), l->ms[l->count - 1], l->count);
    printf("open %.2f ms, first run %.2f ms, arena %.1f kB, peak resident %.1f MB\n", r->open_ms, l->first, (double)r->arena_bytes * 1e-3,
           (double)peak_resident() * 1e-6);
    double celsius = temperature();
    if (celsius >= 0) printf("temperature %.1f C, core 0 at %ld kHz\n", celsius, frequency(0, "scaling_cur_freq"));
}

int measure(struct runner *r, uint32_t runs, bool ops, const char *record)
{
    uint32_t inputs = e8_model_count(&r->model, E8_INPUT), op_runs = runs < 20 ? runs : 20;
    struct latencies l = {.ms = calloc(runs, sizeof(double)), .count = runs};
    void **copies = save_inputs(r, inputs);
    double *op_ms = calloc(e8_model_ops(&r->model), sizeof *op_ms);
    if (!l.ms || !copies || !op_ms) return complain(EXIT_MEMORY, "out of memory");
    int code = time_runs(r, &l, copies, inputs);
    if (code == EXIT_DONE && (ops || record)) code = time_ops(r, op_ms, op_runs, copies, inputs);
    if (code == EXIT_DONE) {
        print_latencies(r, &l);
        if (ops) print_ops(r, op_ms);
        if (record) code = write_record(record, r, &l, op_ms);
        restore_inputs(r, copies, inputs);
    }
    for (uint32_t i = 0; i < inputs; i++) free(copies[i]);
    free(copies);
    free(op_ms);
    free(l.ms);
    return code;
}
