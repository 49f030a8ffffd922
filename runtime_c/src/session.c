/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include "entropy.h"

/* The private content of e8_session. */
struct session {
    const struct model *model;
    const struct e8_kernels *kernels;
    uint8_t *arena, *shared, *thread;
    uint8_t **kept; /* by operator; NULL without room for it */
    size_t thread_bytes;
    uint32_t threads;
    e8_parallel parallel;
    void *parallel_context;
    e8_hook hook;
    void *hook_context;
    e8_clock clock;
    void *clock_context;
    uint64_t *ticks;
};

_Static_assert(sizeof(struct session) <= sizeof(e8_session), "e8_session is too small for its content");

static struct session *session_of(e8_session *session)
{
    return (struct session *)(void *)session->opaque;
}

static struct run run_of(const struct session *s, uint32_t index)
{
    return (struct run){
        .op = model_op(s->model, index),
        .kernels = s->kernels,
        .arena = s->arena,
        .shared = s->shared,
        .kept = s->kept ? s->kept[index] : NULL,
        .thread = s->thread,
        .thread_bytes = s->thread_bytes,
        .threads = s->threads,
        .parallel = s->parallel,
        .parallel_context = s->parallel_context,
    };
}

/* The operators' parts lie behind their places, in order. */
static void keep(const struct session *s, uint8_t *place)
{
    for (uint32_t i = 0; i < s->model->ops.count; i++) {
        struct run r = run_of(s, i);
        const struct op_type *type = model_op_type(r.op.kind);
        if (!type->keep) continue;
        s->kept[i] = r.kept = place;
        place += (size_t)size_align(type->keep(&r), 64);
    }
}

/* Decode the weights that are stored entropy-coded; the table of the one at hand lies in the shared scratch. */
static e8_status decode_weights(const struct session *s)
{
    struct tensor t;
    for (uint32_t i = 0; E8_HAS_ENTROPY && s->model->decoded_bytes && i < s->model->tensors.count; i++) {
        tensor_decode(s->model, i, &t);
        if (t.coded.count == 0) continue;
        struct entropy e = {.data = t.coded, .bits = t.bits, .bytes = t.data.count};
        uint8_t *to = (uint8_t *)(uintptr_t)tensor_bytes(s->model, s->arena, &t);
        if (!entropy_decode(&e, (uint32_t *)(void *)s->shared, to)) return E8_ERR_FORMAT;
    }
    return E8_OK;
}

e8_status e8_session_init(e8_session *session, const e8_model *model, void *arena, size_t bytes, uint32_t threads)
{
    if (!session || !model || !arena || threads == 0) return E8_ERR_ARGUMENT;
    size_t least = e8_model_arena_least(model, threads), most = e8_model_arena(model, threads);
    if (((uintptr_t)arena & 63u) || bytes < least) return E8_ERR_ARENA;
    const struct model *m = model_of(model);
    uint8_t *base = arena;
    struct session s = {
        .model = m,
        .kernels = e8_kernels_for_cpu(),
        .arena = base,
        .shared = base + size_align(m->activation_bytes, 64) + m->decoded_bytes,
        .thread_bytes = (size_t)size_align(m->scratch_thread, 64),
        .threads = threads,
    };
    s.thread = s.shared + size_align(m->scratch_shared, 64);
    memset(arena, 0, bytes < most ? least : most);
    TRY(decode_weights(&s));
    if (m->kept && bytes >= most) {
        s.kept = (uint8_t **)(void *)(base + least);
        keep(&s, base + least + model_places_bytes(m));
    }
    memset(session, 0, sizeof *session);
    memcpy(session, &s, sizeof s);
    return E8_OK;
}

void e8_session_parallel(e8_session *session, e8_parallel parallel, void *context)
{
    session_of(session)->parallel = parallel;
    session_of(session)->parallel_context = context;
}

void e8_session_hook(e8_session *session, e8_hook hook, void *context)
{
    session_of(session)->hook = hook;
    session_of(session)->hook_context = context;
}

void e8_session_times(e8_session *session, e8_clock clock, void *context, uint64_t *ticks)
{
    struct session *s = session_of(session);
    s->clock = ticks ? clock : NULL;
    s->clock_context = context;
    s->ticks = ticks;
}

void *e8_session_data(e8_session *session, e8_io io, uint32_t index)
{
    const struct session *s = session_of(session);
    struct tensor t;
    struct flat_vector list = io == E8_INPUT ? s->model->inputs : s->model->outputs;
    if (index >= list.count) return NULL;
    tensor_decode(s->model, flat_load32(list.bytes + 4 * (size_t)index), &t);
    return s->arena + t.offset;
}

const void *e8_session_tensor(const e8_session *session, uint32_t index)
{
    const struct session *s = (const struct session *)(const void *)session->opaque;
    struct tensor t;
    if (index >= s->model->tensors.count) return NULL;
    tensor_decode(s->model, index, &t);
    return t.constant ? tensor_bytes(s->model, s->arena, &t) : s->arena + t.offset;
}

/* On a big-endian machine: copy the constants that an operator reads to the start of the shared scratch, each element's bytes
 * reversed. Codes of 1 byte are copied too, so that places are simple. Gives the bytes used. */
static size_t swap_constants(const struct session *s, const struct op *op, uint8_t *place)
{
    size_t used = 0;
    struct tensor t;
    for (uint32_t i = 0; i < op->inputs.count; i++) {
        if (!op_input(op, i, &t) || !t.constant) continue;
        size_t width = type_bytes(t.type);
        const uint8_t *bytes = tensor_bytes(s->model, s->arena, &t);
        for (size_t k = 0; k < t.data.count; k++) {
            size_t at = k / width * width + (width - 1 - k % width);
            place[used + k] = at < t.data.count ? bytes[at] : 0;
        }
        used += (size_t)size_align(t.data.count, 64);
    }
    return used;
}

static e8_status run_op(const struct session *s, uint32_t index)
{
    struct run r = run_of(s, index);
    if (E8_BIG_ENDIAN) {
        r.swapped = s->shared;
        r.shared += swap_constants(s, &r.op, s->shared);
    }
    return model_op_type(r.op.kind)->run(&r);
}

e8_status e8_session_run(e8_session *session)
{
    const struct session *s = session_of(session);
    for (uint32_t i = 0; i < s->model->ops.count; i++) {
        if (s->hook && s->hook(s->hook_context, i, 0)) return E8_ERR_STOPPED;
        uint64_t begin = s->clock ? s->clock(s->clock_context) : 0;
        TRY(run_op(s, i));
        if (s->clock) s->ticks[i] += s->clock(s->clock_context) - begin;
        if (s->hook && s->hook(s->hook_context, i, 1)) return E8_ERR_STOPPED;
    }
    return E8_OK;
}

e8_status e8_session_step(e8_session *session, uint32_t op)
{
    const struct session *s = session_of(session);
    return op < s->model->ops.count ? run_op(s, op) : E8_ERR_ARGUMENT;
}

void run_parallel(const struct run *r, void (*task)(void *argument, uint32_t index), void *argument, uint32_t count)
{
    if (r->parallel && count > 1) {
        r->parallel(r->parallel_context, task, argument, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) task(argument, i);
}

void run_share(size_t total, size_t unit, uint32_t index, uint32_t count, size_t *begin, size_t *end)
{
    size_t units = total / unit + (total % unit != 0);
    size_t each = units / count, more = units % count;
    size_t first = index * each + (index < more ? index : more);
    size_t last = first + each + (index < more ? 1 : 0);
    *begin = first * unit < total ? first * unit : total;
    *end = last * unit < total ? last * unit : total;
}

uint32_t run_tasks(const struct run *r, uint64_t work, uint64_t units)
{
    /* Waking a thread costs a few microseconds: about so many int8 MACs. */
    const uint64_t worth = 100000;
    uint64_t tasks = work / worth;
    if (tasks > units) tasks = units;
    if (tasks > r->threads) tasks = r->threads;
    return tasks > 1 ? (uint32_t)tasks : 1;
}
