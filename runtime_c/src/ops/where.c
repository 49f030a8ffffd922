/* SPDX-License-Identifier: Apache-2.0
 *
 * Where: y = condition ? a : b, the three broadcast to y's shape; a, b and y share type and scale. */
#include "../strided.h"

static e8_status check(struct check *c)
{
    struct tensor condition, a, b, y;
    TRY(check_counts(c, 3, 3, 1));
    op_input(&c->op, 0, &condition);
    op_input(&c->op, 1, &a);
    op_input(&c->op, 2, &b);
    op_output(&c->op, 0, &y);
    REQUIRE(c, "where.condition", condition.type == Type_BOOL);
    TRY(check_same_quantisation(c, &y, &a));
    TRY(check_same_quantisation(c, &y, &b));
    TRY(check_broadcast(c, &condition, &y));
    TRY(check_broadcast(c, &a, &y));
    TRY(check_broadcast(c, &b, &y));
    c->macs = y.elements;
    return E8_OK;
}

struct job {
    struct strided space;
    const uint8_t *condition, *a, *b;
    uint8_t *y;
    size_t total, width;
    uint32_t tasks;
};

#define SELECT(name, type)                                                                                                                 \
    static void name(const struct job *j, const struct strided_cursor *c)                                                                  \
    {                                                                                                                                      \
        const struct strided *s = &j->space;                                                                                               \
        uint32_t last = s->rank - 1;                                                                                                       \
        const uint8_t *condition = j->condition + c->offset[0];                                                                            \
        const type *a = (const type *)(const void *)j->a + c->offset[1], *b = (const type *)(const void *)j->b + c->offset[2];             \
        type *y = (type *)(void *)j->y + c->position;                                                                                      \
        ptrdiff_t condition_step = s->stride[0][last], a_step = s->stride[1][last], b_step = s->stride[2][last];                           \
        for (size_t i = 0; i < c->count; i++) {                                                                                            \
            y[i] = *condition ? *a : *b;                                                                                                   \
            condition += condition_step;                                                                                                   \
            a += a_step;                                                                                                                   \
            b += b_step;                                                                                                                   \
        }                                                                                                                                  \
    }
SELECT(select_1, uint8_t)
SELECT(select_2, uint16_t)
SELECT(select_4, uint32_t)
SELECT(select_8, uint64_t)

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    struct strided_cursor c;
    size_t begin, end;
    run_share(j->total, 64, index, j->tasks, &begin, &end);
    for (strided_begin(&c, &j->space, begin, end); c.count; strided_next(&c)) {
        if (j->width == 1)
            select_1(j, &c);
        else if (j->width == 2)
            select_2(j, &c);
        else if (j->width == 4)
            select_4(j, &c);
        else
            select_8(j, &c);
    }
}

static e8_status run(const struct run *r)
{
    struct tensor condition, a, b, y;
    run_input(r, 0, &condition);
    run_input(r, 1, &a);
    run_input(r, 2, &b);
    run_output(r, 0, &y);
    struct job j = {.condition = condition.address, .a = a.address, .b = b.address, .y = y.address};
    strided_space(&j.space, &y, 3);
    strided_broadcast(&j.space, 0, &condition);
    strided_broadcast(&j.space, 1, &a);
    strided_broadcast(&j.space, 2, &b);
    strided_collapse(&j.space);
    j.total = (size_t)y.elements;
    j.width = type_bytes(y.type);
    j.tasks = run_tasks(r, y.elements, j.total / 64);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_where = {.check = check, .run = run, .in_place = 7};
