/* SPDX-License-Identifier: Apache-2.0
 *
 * edge8_quant.h - calibration: from a weights-quantised .e8 file to a full-int8 one, on a computer or on the device.
 *
 * What it is for
 *   A weights-quantised file holds int8 weights; its activations are marked INT8 but have no scale yet, so the runtime
 *   computes them in float32. Calibration runs the file on samples, watches the range of every activation, and writes scales,
 *   zero points and lookup tables into the same bytes. Nothing else changes: not the size, not the weights, not the plan.
 *   The converter's own full quantisation is this code, so a file that is calibrated on a board equals the host's byte for
 *   byte when samples, order and options are the same.
 *
 * Two layers
 *   e8_observer   watches one stream of numbers: exact extremes and a histogram in a fixed 16.6 kB, whatever the count.
 *   e8_calibration  holds the observers of a whole model, feeds them from a running session, and fills the file in.
 *
 * Life of a calibration
 *     e8_model_open(&model, file, size, NULL, &diag);               (an uncalibrated file)
 *     size_t bytes = e8_calibration_bytes(&model);                  (memory for its observers)
 *     e8_calibration_init(&calibration, &model, memory, bytes);
 *     e8_calibration_attach(&calibration, &session);                (the session's hook)
 *     for each sample: write the inputs; e8_session_run(&session);
 *     memcpy(copy, file, size);
 *     e8_calibration_fill(&calibration, NULL, copy, size, &diag);   (copy is now the full-int8 file)
 *   A program that runs for days may save the state of its observers (e8_calibration_save) and go on after a restart
 *   (e8_calibration_load), or join the states of many devices (e8_calibration_merge), and fill the file at the end.
 *
 * What it promises
 *   - No allocation, no files, no threads, as edge8.h. All memory is the caller's; its size does not depend on the samples.
 *   - Integer counts and IEEE arithmetic with single roundings only: the same numbers on every CPU. For all methods except
 *     MOVING_AVERAGE and REMOVAL_OUTLIER the order of samples does not matter either, nor how they were split and merged.
 *   - States from outside are checked like models: e8_calibration_load refuses what it cannot prove sound.
 *
 * What it does not promise
 *   - That the samples are the right ones. Use inputs as the application sees them, preprocessed the same way; 100 are
 *     usually enough, and a few unusual ones are worth more than many alike.
 *
 * The histogram
 *   Values are counted by sign, exponent and the upper six bits of the mantissa: 64 bins an octave, 16 octaves below the
 *   largest magnitude seen. When a larger value comes, the lowest octaves join the count of values near zero, so the final
 *   bins depend on the values alone, not on their order. A relative resolution of 1.6 % or better holds at any magnitude:
 *   one wild outlier cannot spoil the bins where the body of the distribution lies.
 *   Magnitudes of 2^29 and more are counted but take no part in ranges: they are mask constants such as -3.4e38 and -1e9,
 *   which saturate. NaN is counted apart. Extremes are exact over all values; of arrays longer than 32768 the histogram takes
 *   128 blocks of 256 values, spread evenly, to stay cheap beside the run that makes them.
 *
 * Threads
 *   An observer and a calibration belong to one thread at a time; sessions may run on any number of threads meanwhile. */
#ifndef EDGE8_QUANT_H
#define EDGE8_QUANT_H

#include "edge8.h"

#ifdef __cplusplus
extern "C" {
#endif

/* CFFI-BEGIN: everything up to CFFI-END is also the Python binding's declaration; constants are literals. */

/* How a range is chosen from what an observer saw. Zero always belongs to the range, so that it has a code of its own. */
typedef enum e8_method {
    E8_METHOD_AUTO = 0,            /* least expected error of clipping and rounding, weighing large values higher than MSE does */
    E8_METHOD_MIN_MAX = 1,         /* everything seen; right when the samples are all that ever comes */
    E8_METHOD_MOVING_AVERAGE = 2,  /* exponential moving average of each run's extremes, factor 0.1 */
    E8_METHOD_PERCENTILE = 3,      /* cuts the same fraction of values off either end */
    E8_METHOD_REMOVAL_OUTLIER = 4, /* mean over the runs of each run's 0.01 % and 99.99 % quantiles */
    E8_METHOD_KL = 5,              /* least Kullback-Leibler divergence of a symmetric clip, 2048 bins to 128 */
    E8_METHOD_MSE = 6              /* least expected squared error of clipping and rounding */
} e8_method;

/* Options of a range search. */
typedef struct e8_range_options {
    int32_t method;    /* e8_method */
    float percentile;  /* E8_METHOD_PERCENTILE: percent of values up to the upper end, above 50 and at most 100; 99.99 */
    int32_t bits;      /* width of the codes: 8 or 16 */
    int32_t symmetric; /* 1: zero point 0 and a range that is symmetric about it */
} e8_range_options;

/* Watches one stream of numbers. The content is private. */
typedef struct e8_observer {
    uint64_t opaque[2112];
} e8_observer;

/* What one observer saw. */
typedef struct e8_observed {
    uint64_t runs;      /* e8_observer_end calls with values before them */
    uint64_t count;     /* all values, without NaN */
    uint64_t sampled;   /* of these, values in the histogram */
    uint64_t near_zero; /* of the sampled, values too small for a bin of their own; zeros are among them */
    uint64_t huge;      /* magnitudes of 2^29 and more, infinities among them */
    uint64_t nan;
    float low, high; /* extremes without the huge values; 0 and 0 when there were none */
} e8_observed;

/* What a range costs, from the histogram. Squared errors are sums over the sampled values, divided by their count. */
typedef struct e8_range_error {
    double clip_rate;   /* fraction of values outside the range */
    double clip_error;  /* mean squared error that clipping makes */
    double round_error; /* mean squared error that rounding makes: step * step / 12 for every value but the zeros */
    double power;       /* mean square of the values */
} e8_range_error;

/* Working memory of e8_observer_add and e8_observer_range, 8 kB; its content between calls does not matter. */
typedef struct e8_observer_scratch {
    uint32_t opaque[2064];
} e8_observer_scratch;

/* The options that the converter uses by default: AUTO, 99.99, 8 bits, asymmetric. */
E8_API e8_range_options e8_default_range_options(void);

/* Start an observer; it has seen nothing. */
E8_API void e8_observer_init(e8_observer *observer);

/* Watch `count` values. They belong to the current run until e8_observer_end. */
E8_API void e8_observer_add(e8_observer *observer, const float *values, size_t count, e8_observer_scratch *scratch);

/* End a run: the methods that work by run (moving average, removal of outliers) fold it in. Without values since the last
 * end this does nothing. */
E8_API void e8_observer_end(e8_observer *observer);

/* Add what `other` saw, as if `observer` had seen it too. The by-run methods weigh both by their number of runs. */
E8_API void e8_observer_merge(e8_observer *observer, const e8_observer *other);

/* What it saw. */
E8_API void e8_observer_read(const e8_observer *observer, e8_observed *seen);

/* The histogram for plots: up to `capacity` bins with at least one value, ascending; bin i holds counts[i] values from
 * edges[2 * i] to edges[2 * i + 1]. Gives how many bins there are; 2049 always suffice. */
E8_API size_t e8_observer_bins(const e8_observer *observer, double *edges, uint64_t *counts, size_t capacity);

/* Choose a range. E8_ERR_ARGUMENT for options out of range. An observer without values gives [0, 0]. */
E8_API e8_status e8_observer_range(const e8_observer *observer, const e8_range_options *options, float *low, float *high,
                                   e8_observer_scratch *scratch);

/* The cost of a range with codes of `bits` bits. */
E8_API e8_status e8_observer_error(const e8_observer *observer, float low, float high, int32_t bits, e8_range_error *error);

/* Scale and zero point of a range: 8 bits -128..127, 16 bits symmetric -32767..32767. The range is widened to contain 0; an
 * empty one gives scale 1 and zero point 0. Scales stay within 2^-30 .. 2^30. */
E8_API void e8_scale_of_range(float low, float high, int32_t bits, int32_t symmetric, float *scale, int32_t *zero_point);

/* The calibration of one model. The content is private. */
typedef struct e8_calibration {
    uint64_t opaque[16];
} e8_calibration;

/* Memory that the observers of this model need, and how many there are: one for every scale that depends on data. */
E8_API size_t e8_calibration_bytes(const e8_model *model);
E8_API uint32_t e8_calibration_observers(const e8_model *model);

/* Start a calibration in `memory`, 64-byte aligned and at least e8_calibration_bytes(model). The model must wait for
 * calibration (E8_ERR_ARGUMENT) and be sound for it: each waiting activation has room for its scale and zero point, and
 * refers to one that does not refer on (E8_ERR_FORMAT). */
E8_API e8_status e8_calibration_init(e8_calibration *calibration, const e8_model *model, void *memory, size_t bytes);

/* Watch every run of a session of this model: takes its hook. NULL lets it go. */
E8_API void e8_calibration_attach(e8_calibration *calibration, e8_session *session);

/* The hook itself, for a caller that has a hook of its own and calls this one from it with the calibration as context. The
 * session must have been attached. */
E8_API int e8_calibration_hook(void *calibration, uint32_t op, int after);

/* Runs watched so far. */
E8_API uint64_t e8_calibration_runs(const e8_calibration *calibration);

/* The observer of a tensor (of the tensor whose scale it shares), or NULL: constants, float tensors, and scales that do not
 * depend on data have none. */
E8_API e8_observer *e8_calibration_observer(e8_calibration *calibration, uint32_t tensor);

/* Choose a tensor's range by hand instead of from what was seen. Tensors that share its scale get it too. */
E8_API e8_status e8_calibration_set_range(e8_calibration *calibration, uint32_t tensor, float low, float high);

/* Choose the range of one tensor by a method of its own instead of the one that is given to e8_calibration_fill. */
E8_API e8_status e8_calibration_set_method(e8_calibration *calibration, uint32_t tensor, int32_t method, float percentile);

/* The range that e8_calibration_fill would write for a tensor. */
E8_API e8_status e8_calibration_range(e8_calibration *calibration, const e8_range_options *options, uint32_t tensor, float *low,
                                      float *high);

/* Write the state of the observers, e8_calibration_saved_bytes() of them; any machine can read it back. */
E8_API size_t e8_calibration_saved_bytes(const e8_calibration *calibration);
E8_API e8_status e8_calibration_save(const e8_calibration *calibration, void *bytes, size_t size);

/* Replace what was seen by a saved state, or add it. E8_ERR_FORMAT: not a sound state; E8_ERR_CHECKSUM: damaged;
 * E8_ERR_ARGUMENT: it belongs to another model. The calibration is unchanged on error. */
E8_API e8_status e8_calibration_load(e8_calibration *calibration, const void *bytes, size_t size);
E8_API e8_status e8_calibration_merge(e8_calibration *calibration, const void *bytes, size_t size);

/* Complete `file`, a copy of the model's bytes (64-byte aligned): scales, zero points, tables, checksum; `options` NULL means
 * e8_default_range_options(). The result has been opened once, so that E8_OK means it runs; on error the content of `file` is
 * of no use. E8_ERR_ARGUMENT: nothing was watched, the bytes are another file, or bad options. */
E8_API e8_status e8_calibration_fill(e8_calibration *calibration, const e8_range_options *options, void *file, size_t size, e8_diag *diag);

/* CFFI-END */

#ifdef __cplusplus
}
#endif
#endif
