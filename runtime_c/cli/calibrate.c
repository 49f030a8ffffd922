/* SPDX-License-Identifier: Apache-2.0
 *
 * edge8-calibrate: make a weights-quantised file a full int8 one, on the board. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "edge8_quant.h"
#include "samples.h"

const char program_name[] = "edge8-calibrate";

static const char USAGE[] =
    "usage: edge8-calibrate MODEL.e8 SAMPLES ... [options]\n"
    "\n"
    "Runs a weights-quantised model on samples (folders or files: .npy, raw little-endian .bin or .raw, pictures .ppm .pgm\n"
    ".bmp; NAME=FOLDER for each of several inputs) and writes the full int8 file that the host would write.\n"
    "\n"
    "  -o FILE           file to write (default: the model itself, replaced when all is done)\n"
    "  --method NAME     auto, minmax, moving-average, percentile, removal-outlier, kl or mse (auto)\n"
    "  --percentile P    for --method percentile (99.99)\n"
    "  --state FILE      take up what FILE says was seen, and save it there afterwards, so that several calls add up\n"
    "  --save-every N    with --state: save after every N samples too\n"
    "  --resume          with --state: leave out as many samples as FILE has seen, to go on with an interrupted call\n"
    "  --merge FILE      add what another board saw (any number of times; then samples may be absent)\n"
    "  --observe         save the state and stop: no file is written\n"
    "  --threads N       threads (1)\n"
    "  --mean R,G,B --std R,G,B --bgr\n"
    "                    pictures: input = (pixel - mean) / std, channels reversed with --bgr\n"
    "  --info            say how much memory it takes and stop\n"
    "  --version         version and kernel level\n"
    "\n"
    "exit code: 0 done, 2 usage, 3 model refused, 4 samples or state unusable, 5 out of memory, 6 a file was not written,\n"
    "7 a run failed, 128 + N ended by signal N (the state is saved first; a second signal ends it at once)\n";

enum { MOST_ARGUMENTS = 256, MOST_STATES = 64 };

struct options {
    const char *model, *output, *state;
    const char *samples[MOST_ARGUMENTS], *merges[MOST_STATES];
    size_t sample_count, merge_count;
    uint32_t threads, save_every;
    bool resume, observe, info;
    e8_range_options range;
    const char *method;
    struct picture_options picture;
};

struct job {
    struct runner runner;
    e8_calibration calibration;
    const struct options *options;
    void *observers, *state;
    size_t observer_bytes, state_bytes;
    uint64_t seen; /* samples of this call */
};

static int parse_method(struct options *o, const char *text)
{
    static const char *const names[] = {"auto", "minmax", "moving-average", "percentile", "removal-outlier", "kl", "mse"};
    for (int32_t i = 0; text && i < (int32_t)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(text, names[i]) != 0) continue;
        o->method = names[i];
        o->range.method = i;
        return EXIT_DONE;
    }
    return complain(EXIT_USAGE, "--method takes auto, minmax, moving-average, percentile, removal-outlier, kl or mse, got %s",
                    text ? text : "nothing");
}

static int parse_percentile(struct options *o, const char *text)
{
    char *end = NULL;
    float value = text ? strtof(text, &end) : 0.0f;
    if (!text || end == text || *end != 0 || !(value > 50.0f && value <= 100.0f))
        return complain(EXIT_USAGE, "--percentile takes a number above 50 and up to 100, got %s", text ? text : "nothing");
    o->range.percentile = value;
    return EXIT_DONE;
}

static int parse_value(struct options *o, const char *name, const char *value, bool *known)
{
    *known = true;
    if (strcmp(name, "--threads") == 0) return whole_number(name, value, 256, &o->threads);
    if (strcmp(name, "--save-every") == 0) return whole_number(name, value, UINT32_MAX, &o->save_every);
    if (strcmp(name, "--mean") == 0) return three_numbers(name, value, true, o->picture.mean);
    if (strcmp(name, "--std") == 0) return three_numbers(name, value, false, o->picture.std);
    if (strcmp(name, "--method") == 0) return parse_method(o, value);
    if (strcmp(name, "--percentile") == 0) return parse_percentile(o, value);
    bool merge = strcmp(name, "--merge") == 0;
    const char **text = strcmp(name, "-o") == 0 ? &o->output : strcmp(name, "--state") == 0 ? &o->state : NULL;
    if (merge && o->merge_count == MOST_STATES) return complain(EXIT_USAGE, "more than %d states in one call; merge in steps", MOST_STATES);
    if (merge) text = &o->merges[o->merge_count++];
    *known = text != NULL;
    if (!text) return EXIT_DONE;
    *text = value;
    return value ? EXIT_DONE : complain(EXIT_USAGE, "%s needs a value", name);
}

static int parse_option(struct options *o, const char *name, const char *value, bool *used)
{
    int code = parse_value(o, name, value, used);
    if (*used) return code;
    bool *flag = strcmp(name, "--resume") == 0    ? &o->resume
                 : strcmp(name, "--observe") == 0 ? &o->observe
                 : strcmp(name, "--info") == 0    ? &o->info
                 : strcmp(name, "--bgr") == 0     ? &o->picture.bgr
                                                  : NULL;
    if (!flag) return complain(EXIT_USAGE, "unknown option %s (edge8-calibrate --help)", name);
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
        } else if (o->sample_count == MOST_ARGUMENTS) {
            return complain(EXIT_USAGE, "more than %d folders and files of samples; put them in one folder", MOST_ARGUMENTS);
        } else {
            o->samples[o->sample_count++] = a;
        }
    }
    if (!o->model) return complain(EXIT_USAGE, "no model given (edge8-calibrate --help)");
    if (o->threads == 0) return complain(EXIT_USAGE, "--threads must be at least 1");
    if (!o->state && (o->resume || o->observe || o->save_every))
        return complain(EXIT_USAGE, "--resume, --observe and --save-every need --state FILE");
    if (!o->info && o->sample_count == 0 && o->merge_count == 0 && !o->state) return complain(EXIT_USAGE, "no samples given");
    return EXIT_DONE;
}

static void *take_memory(size_t bytes)
{
    void *memory = NULL;
    return bytes <= available_memory() && posix_memalign(&memory, 64, bytes) == 0 ? memory : NULL;
}

/* Memory of the observers and of their saved form; said beforehand, the same for one sample or a million. */
static int open_calibration(struct job *j)
{
    struct runner *r = &j->runner;
    if (e8_model_calibrated(&r->model))
        return complain(EXIT_MODEL, "%s needs no calibration: its activations have scales, or none is quantised", r->model_path);
    j->observer_bytes = e8_calibration_bytes(&r->model);
    j->observers = take_memory(j->observer_bytes);
    if (!j->observers)
        return complain(EXIT_MEMORY, "%s needs %.1f MB for its observers, which the system refuses", r->model_path,
                        (double)j->observer_bytes * 1e-6);
    e8_status status = e8_calibration_init(&j->calibration, &r->model, j->observers, j->observer_bytes);
    if (status != E8_OK) return complain(EXIT_MODEL, "%s: %s", r->model_path, e8_status_text(status));
    if (j->options->state) {
        j->state_bytes = e8_calibration_saved_bytes(&j->calibration);
        j->state = take_memory(j->state_bytes);
        if (!j->state) return complain(EXIT_MEMORY, "%s: no %.1f MB to save the state from", r->model_path, (double)j->state_bytes * 1e-6);
    }
    return EXIT_DONE;
}

static void print_memory(const struct job *j)
{
    printf("%s: %u observers; memory %zu bytes: arena %zu, observers %zu, state %zu; the same for any number of samples\n",
           j->runner.model_path, e8_calibration_observers(&j->runner.model), j->runner.arena_bytes + j->observer_bytes + j->state_bytes,
           j->runner.arena_bytes, j->observer_bytes, j->state_bytes);
}

static int take_state(struct job *j, const char *path, bool merge)
{
    struct file file;
    int code = map_file(path, EXIT_INPUT, &file);
    if (code != EXIT_DONE) return code;
    e8_status (*take)(e8_calibration *, const void *, size_t) = merge ? e8_calibration_merge : e8_calibration_load;
    e8_status status = take(&j->calibration, file.bytes, file.size);
    release_file(&file);
    const char *wrong = status == E8_ERR_ARGUMENT   ? "belongs to another model"
                        : status == E8_ERR_CHECKSUM ? "is damaged"
                                                    : "is not a saved calibration";
    return status == E8_OK ? EXIT_DONE : complain(EXIT_INPUT, "%s: the state %s", path, wrong);
}

static int take_states(struct job *j)
{
    struct stat info;
    const struct options *o = j->options;
    bool exists = o->state && (stat(o->state, &info) == 0 || errno != ENOENT);
    int code = exists ? take_state(j, o->state, false) : EXIT_DONE;
    for (size_t i = 0; i < o->merge_count && code == EXIT_DONE; i++) code = take_state(j, o->merges[i], true);
    return code;
}

static int save_state(struct job *j)
{
    if (!j->state) return EXIT_DONE;
    (void)e8_calibration_save(&j->calibration, j->state, j->state_bytes);
    struct part part = {j->state, j->state_bytes};
    return write_file(j->options->state, &part, 1);
}

/* With a state the sample at work is finished, so that the observers agree; without one nothing is worth waiting for. */
static int hook(void *context, uint32_t op, int after)
{
    struct job *j = context;
    if (caught_signal() && !j->state) return 1;
    return e8_calibration_hook(&j->calibration, op, after);
}

static int observe_run(struct job *j)
{
    int code = run_once(&j->runner);
    if (code != EXIT_DONE) return code;
    j->seen++;
    uint32_t every = j->options->save_every;
    if (caught_signal()) {
        code = save_state(j);
        if (code != EXIT_DONE) return code;
        return complain(128 + caught_signal(), "stopped by signal %d after %llu samples; the state is saved, --resume goes on",
                        caught_signal(), (unsigned long long)e8_calibration_runs(&j->calibration));
    }
    return every && j->seen % every == 0 ? save_state(j) : EXIT_DONE;
}

static int observe_samples(struct job *j, const struct samples *samples)
{
    uint64_t skip = j->options->resume ? e8_calibration_runs(&j->calibration) : 0, number = 0;
    for (size_t i = 0; i < samples->lists[0].count; i++) {
        uint32_t parts = 1;
        for (uint32_t part = 0; part < parts; part++, number++) {
            int code = read_sample(&j->runner, samples, &j->options->picture, i, part, &parts);
            if (code == EXIT_DONE && number >= skip) code = observe_run(j);
            if (code != EXIT_DONE) return code;
        }
    }
    return EXIT_DONE;
}

static int observe(struct job *j)
{
    struct samples samples = {0};
    int code =
        j->options->sample_count ? list_samples(&j->runner.model, j->options->samples, j->options->sample_count, &samples) : EXIT_DONE;
    if (code == EXIT_DONE && samples.lists) code = open_session(&j->runner);
    if (code == EXIT_DONE && samples.lists) {
        e8_calibration_attach(&j->calibration, &j->runner.session);
        e8_session_hook(&j->runner.session, hook, j);
        code = observe_samples(j, &samples);
    }
    release_samples(&samples);
    close_session(&j->runner);
    return code;
}

/* Fill a private view of the model's file, of which only the changed pages take memory, and write that. */
static int write_result(struct job *j, const struct file *file)
{
    struct file copy;
    const char *output = j->options->output ? j->options->output : j->options->model;
    if (e8_calibration_runs(&j->calibration) == 0) return complain(EXIT_INPUT, "nothing was seen: no sample and no state with samples");
    int code = map_file(j->options->model, EXIT_MODEL, &copy);
    if (code != EXIT_DONE) return code;
    void *bytes = (void *)(uintptr_t)copy.bytes;
    e8_diag diag = {0xFFFFFFFFu, 0xFFFFFFFFu, ""};
    if (mprotect(bytes, copy.size, PROT_READ | PROT_WRITE) != 0) {
        code = complain(EXIT_MEMORY, "%s: no memory for the changes: %s", j->options->model, strerror(errno));
    } else if (copy.size != file->size || e8_calibration_fill(&j->calibration, &j->options->range, bytes, copy.size, &diag) != E8_OK) {
        code = complain(EXIT_RUN, "%s: the file cannot be completed (rule %s): was it changed meanwhile?", j->options->model, diag.rule);
    } else {
        struct part part = {bytes, copy.size};
        code = write_file(output, &part, 1);
    }
    release_file(&copy);
    if (code == EXIT_DONE)
        printf("%s: full int8, %llu samples, method %s\n", output, (unsigned long long)e8_calibration_runs(&j->calibration),
               j->options->method);
    return code;
}

static int work(struct job *j, const struct file *file)
{
    int code = open_calibration(j);
    if (code != EXIT_DONE) return code;
    print_memory(j);
    if (j->options->info) return EXIT_DONE;
    fflush(stdout);
    code = take_states(j);
    if (code == EXIT_DONE) code = observe(j);
    if (code == EXIT_DONE && !j->options->observe) code = write_result(j, file);
    if (code == EXIT_DONE) code = save_state(j);
    return code;
}

int main(int count, char **arguments)
{
    struct options o = {.threads = 1, .method = "auto", .picture = {.mean = {0, 0, 0}, .std = {1, 1, 1}}};
    struct job j = {.options = &o};
    struct file file;
    o.range = e8_default_range_options();
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0) return fputs(USAGE, stdout) < 0;
        if (strcmp(arguments[i], "--version") == 0) return printf("edge8-calibrate %s, kernels %s\n", e8_version(), e8_cpu_level()) < 0;
    }
    int code = parse(count, arguments, &o);
    if (code != EXIT_DONE) return code;
    catch_signals(true);
    j.runner.model_path = o.model;
    j.runner.threads = o.threads;
    code = map_file(o.model, EXIT_MODEL, &file);
    if (code != EXIT_DONE) return code;
    code = open_model(&j.runner, &file);
    if (code == EXIT_DONE) code = work(&j, &file);
    release_file(&file);
    free(j.observers);
    free(j.state);
    if (fflush(stdout) != 0 && code == EXIT_DONE) return complain(EXIT_OUTPUT, "the output cannot be written: %s", strerror(errno));
    return code;
}
