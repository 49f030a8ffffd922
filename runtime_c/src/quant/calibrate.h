/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a calibration. */
#ifndef E8_CALIBRATE_H
#define E8_CALIBRATE_H

#include "../crc32c.h"
#include "../model.h"
#include "observer.h"

#define OBSERVER_NONE 0xFFFFFFFFu

/* How the range of one slot is found: the method of the fill, or one of its own, or by hand. */
enum { METHOD_GIVEN = -1, METHOD_BY_HAND = -2 };

struct choice {
    int32_t method;
    float percentile, low, high;
};

struct calibration {
    const e8_model *model;
    e8_session *session;
    uint32_t *slots;
    struct choice *choices;
    e8_observer *table;
    e8_observer_scratch *scratch;
    uint64_t runs;
    uint32_t observers;
};

_Static_assert(sizeof(struct calibration) <= sizeof(e8_calibration), "e8_calibration is too small for its content");

uint32_t calibration_leader(const struct model *m, uint32_t index);
bool calibration_waits(const struct model *m, uint32_t index);

#endif
