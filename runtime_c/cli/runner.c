/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a model and running it, for all programs. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
}

void catch_signals(bool once)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = once ? (int)SA_RESETHAND : 0};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
}

int caught_signal(void)
{
    return (int)caught;
}

static int stop_when_asked(void *context, uint32_t op, int after)
{
    (void)context;
    (void)op;
    (void)after;
    return caught != 0;
}

static int refuse(const char *path, e8_status status, const e8_diag *diag)
{
    char place[64] = "";
    if (status == E8_ERR_VERSION)
        return complain(EXIT_MODEL, "%s: the file was written for a newer edge8 than this %s: update %s", path, e8_version(), program_name);
    if (diag->op != 0xFFFFFFFFu)
        snprintf(place, sizeof place, ", operator %u", diag->op);
    else if (diag->tensor != 0xFFFFFFFFu)
        snprintf(place, sizeof place, ", tensor %u", diag->tensor);
    const char *lacking[] = {"op.kind", "op.form", "tensor.entropy"};
    bool lacks = false;
    for (size_t i = 0; diag->rule && i < sizeof lacking / sizeof *lacking; i++) lacks |= strcmp(diag->rule, lacking[i]) == 0;
    if (status == E8_ERR_UNSUPPORTED && lacks)
        return complain(EXIT_MODEL, "%s: this build lacks what the model needs (rule %s%s): name the model in edge8 deploy --ops-from",
                        path, diag->rule, place);
    return complain(EXIT_MODEL, "%s: %s (rule %s%s)", path, e8_status_text(status), diag->rule ? diag->rule : "", place);
}

int open_model(struct runner *r, const struct file *file)
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

int open_session(struct runner *r)
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
    if (r->threads == 1) return EXIT_DONE;
    r->pool = e8_pool_create(r->threads);
    if (!r->pool) return complain(EXIT_MEMORY, "no threads are to be had");
    e8_session_parallel(&r->session, e8_pool_run, r->pool);
    return EXIT_DONE;
}

void close_session(struct runner *r)
{
    e8_pool_destroy(r->pool);
    free(r->arena);
}

int run_once(struct runner *r)
{
    e8_status status = e8_session_run(&r->session);
    if (status == E8_ERR_STOPPED) return complain(128 + (int)caught, "stopped by signal %d; nothing was written", (int)caught);
    return status == E8_OK ? EXIT_DONE : complain(EXIT_RUN, "%s: %s", r->model_path, e8_status_text(status));
}
