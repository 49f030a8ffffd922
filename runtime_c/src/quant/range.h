/* SPDX-License-Identifier: Apache-2.0 */
#ifndef E8_RANGE_H
#define E8_RANGE_H

#include "../names.h"

#include "observer.h"

/* The clip of least Kullback-Leibler divergence; `scratch` holds 2048 floats. Leaves the range as it is where there is
 * nothing to compare. */
void range_by_divergence(const struct observer *o, float *low, float *high, float *scratch);

/* Natural logarithm of a positive normal number, the same bits everywhere; relative error below 1e-12. */
double log_positive(double x);

#endif
