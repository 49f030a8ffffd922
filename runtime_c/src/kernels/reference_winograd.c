/* SPDX-License-Identifier: Apache-2.0
 *
 * The Winograd transforms for the base architecture: their specification. */
#include "../winograd_loops.h"

void e8_init_reference_winograd(struct e8_kernels *k)
{
    winograd_kernels(k);
}
