/* SPDX-License-Identifier: Apache-2.0 */
#include "op.h"

e8_status check_counts(struct check *c, uint32_t inputs_min, uint32_t inputs_max, uint32_t outputs)
{
    uint32_t inputs = c->op.inputs.count;
    REQUIRE(c, "op.inputs", inputs >= inputs_min && inputs <= inputs_max);
    REQUIRE(c, "op.outputs", c->op.outputs.count == outputs);
    for (uint32_t i = 0; i < inputs_min; i++) REQUIRE(c, "op.inputs", flat_load32(c->op.inputs.bytes + 4 * (size_t)i) != E8_ABSENT);
    return E8_OK;
}

e8_status check_same_quantisation(struct check *c, const struct tensor *a, const struct tensor *b)
{
    c->tensor = b->index;
    REQUIRE(c, "op.type", a->type == b->type);
    REQUIRE(c, "op.scale", a->scale == b->scale && a->zero_point == b->zero_point);
    c->tensor = E8_ABSENT;
    return E8_OK;
}
