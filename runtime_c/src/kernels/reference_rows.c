/* SPDX-License-Identifier: Apache-2.0
 *
 * The row loops for the base architecture: their specification. */
#include "../row_loops.h"

void e8_init_reference_rows(struct e8_kernels *k)
{
    row_kernels(k);
}
