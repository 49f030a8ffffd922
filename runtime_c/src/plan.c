/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include "model.h"

static bool contains(struct flat_vector list, uint32_t tensor)
{
    for (uint32_t i = 0; i < list.count; i++)
        if (flat_load32(list.bytes + 4 * (size_t)i) == tensor) return true;
    return false;
}

/* The tensor holds a value before operator `reader` starts: it is a constant, a graph input, or an earlier operator's output. */
static bool is_written_before(const struct model *m, const struct tensor *t, uint32_t reader)
{
    if (t->constant) return true;
    if (t->first < reader && contains(model_op(m, t->first).outputs, t->index)) return true;
    return t->first == 0 && contains(m->inputs, t->index);
}

static bool op_lives_are_sound(const struct model *m, const struct op *op, const char **rule, uint32_t *tensor)
{
    struct tensor t;
    *rule = "plan.life";
    for (uint32_t i = 0; i < op->inputs.count; i++) {
        if (!op_input(op, i, &t)) continue;
        *tensor = t.index;
        if (!t.constant && t.last < op->index) return false;
        if (!is_written_before(m, &t, op->index)) return false;
    }
    *rule = "plan.producer";
    for (uint32_t i = 0; i < op->outputs.count; i++) {
        op_output(op, i, &t);
        *tensor = t.index;
        struct flat_vector earlier = {op->outputs.bytes, i};
        if (t.first != op->index || contains(m->inputs, t.index) || contains(earlier, t.index)) return false;
    }
    return true;
}

static bool io_is_sound(const struct model *m, const char **rule, uint32_t *tensor)
{
    struct tensor t;
    *rule = "model.inputs";
    for (uint32_t i = 0; i < m->inputs.count; i++) {
        *tensor = flat_load32(m->inputs.bytes + 4 * (size_t)i);
        struct flat_vector earlier = {m->inputs.bytes, i};
        if (*tensor >= m->tensors.count || contains(earlier, *tensor)) return false;
        tensor_decode(m, *tensor, &t);
        if (t.constant || t.first != 0) return false;
    }
    *rule = "model.outputs";
    for (uint32_t i = 0; i < m->outputs.count; i++) {
        *tensor = flat_load32(m->outputs.bytes + 4 * (size_t)i);
        if (*tensor >= m->tensors.count) return false;
        tensor_decode(m, *tensor, &t);
        if (t.constant || t.last != m->ops.count || !is_written_before(m, &t, m->ops.count)) return false;
    }
    return true;
}

/* An activation's place and life, small enough to keep a block of them on the stack. */
struct place {
    uint64_t begin, end;
    uint32_t first, last, index;
};

static bool place_of(const struct model *m, uint32_t index, struct place *p)
{
    struct tensor t;
    tensor_decode(m, index, &t);
    if (t.constant) return false;
    *p = (struct place){.begin = t.offset, .end = size_add(t.offset, t.bytes), .first = t.first, .last = t.last, .index = index};
    return true;
}

/* `later` is the output of its operator, which is also the last reader of `earlier`, in the same place, and allowed to. */
static bool takes_place(const struct model *m, const struct place *earlier, const struct place *later)
{
    if (earlier->last != later->first || earlier->begin != later->begin || earlier->end != later->end) return false;
    struct op op = model_op(m, later->first);
    if (!contains(op.outputs, later->index) || contains(op.outputs, earlier->index)) return false;
    uint32_t allowed = model_op_type(op.kind)->in_place;
    for (uint32_t i = 0; i < op.inputs.count; i++)
        if (flat_load32(op.inputs.bytes + 4 * (size_t)i) == earlier->index && !(i < 32 && (allowed >> i & 1u))) return false;
    return contains(op.inputs, earlier->index);
}

static bool collide(const struct model *m, const struct place *a, const struct place *b)
{
    if (a->begin >= b->end || b->begin >= a->end) return false;
    if (a->last < b->first || b->last < a->first) return false;
    return !takes_place(m, a, b) && !takes_place(m, b, a);
}

enum { BLOCK = 32 };

/* Pairwise, with one side decoded in blocks. */
static bool places_are_disjoint(const struct model *m, uint32_t *tensor)
{
    struct place block[BLOCK], other;
    for (uint32_t start = 0; start < m->tensors.count;) {
        uint32_t filled = 0;
        while (start < m->tensors.count && filled < BLOCK) filled += place_of(m, start++, &block[filled]);
        for (uint32_t i = 0; i < filled; i++) {
            *tensor = block[i].index;
            if (block[i].end > m->activation_bytes) return false;
            for (uint32_t k = i + 1; k < filled; k++)
                if (collide(m, &block[i], &block[k])) return false;
        }
        for (uint32_t k = start; k < m->tensors.count; k++) {
            if (!place_of(m, k, &other)) continue;
            *tensor = k;
            for (uint32_t i = 0; i < filled; i++)
                if (collide(m, &block[i], &other)) return false;
        }
    }
    return true;
}

bool plan_is_sound(const struct model *m, const char **rule, uint32_t *op_index, uint32_t *tensor)
{
    for (uint32_t i = 0; i < m->ops.count; i++) {
        struct op op = model_op(m, i);
        *op_index = i;
        if (!op_lives_are_sound(m, &op, rule, tensor)) return false;
    }
    *op_index = E8_ABSENT;
    if (!io_is_sound(m, rule, tensor)) return false;
    *rule = "plan.place";
    return places_are_disjoint(m, tensor);
}
