/* SPDX-License-Identifier: Apache-2.0 */
#ifndef E8_PLAN_H
#define E8_PLAN_H

#include "op.h"

/* True when the arena plan of the file is safe: every activation lies inside the arena, is written exactly once and before
 * it is read, and no two activations that are alive at the same time share bytes, except an operator's output that takes
 * the place of an input as the operator allows. Otherwise says which rule is broken, and where. */
bool plan_is_sound(const struct model *m, const char **rule, uint32_t *op, uint32_t *tensor);

#endif
