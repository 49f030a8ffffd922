/* SPDX-License-Identifier: Apache-2.0
 *
 * Sample files by input, in the order in which they are used. */
#ifndef E8_SAMPLES_H
#define E8_SAMPLES_H

#include "run.h"

struct list {
    char **paths;
    size_t count;
};

struct samples {
    struct list *lists; /* one per input of the model */
    uint32_t inputs;
};

/* Expand folders and files, "NAME=PATH" where the model has several inputs; each folder's files in the order of their names.
 * Inputs must have equally many files. */
int list_samples(const e8_model *model, const char *const *arguments, size_t count, struct samples *samples);
void release_samples(struct samples *samples);

/* Write run `part` of the files number `i` into the inputs of a session; *parts: how many runs they hold. */
int read_sample(struct runner *r, const struct samples *samples, const struct picture_options *options, size_t i, uint32_t part,
                uint32_t *parts);

#endif
