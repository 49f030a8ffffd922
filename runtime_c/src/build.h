/* SPDX-License-Identifier: Apache-2.0
 *
 * What this build holds. A pruned build names a header (written by converter/prune.py) with the operators, and for each the forms
 * of data that it must compute; the rest of its code is not compiled in. Opening a model that needs more gives
 * E8_ERR_UNSUPPORTED with the rule op.kind, op.form or tensor.entropy. */
#ifndef E8_BUILD_H
#define E8_BUILD_H

/* Forms: the element types of an operator's activations. */
#define E8_FORM_FLOAT 1u   /* float32 */
#define E8_FORM_INT8 2u    /* int8 with a scale */
#define E8_FORM_INT16 4u   /* int16 with a scale */
#define E8_FORM_INTEGER 8u /* bool, uint8, int32, int64, and codes without a scale */

#if defined(E8_OPS_HEADER)
#include E8_OPS_HEADER
/* True when operator `table` has at least one of the forms; a constant, so that the compiler drops what it guards. */
#define E8_HAS(table, forms) ((E8_FORMS_##table & (forms)) != 0)
#else
#define E8_OPS_USED(X) E8_OPS(X)
#define E8_HAS(table, forms) 1
#define E8_HAS_ENTROPY 1 /* entropy-coded weights */
#endif

#endif
