/* SPDX-License-Identifier: Apache-2.0
 *
 * edge8-run and edge8-calibrate, the commands for boards: parts that main.c and calibrate.c put together. They use C11 and POSIX
 * only, and of edge8 only the public headers, so they also show how to use them. */
#ifndef E8_RUN_H
#define E8_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "edge8.h"
#include "edge8_pool.h"

/* Exit codes. A signal gives 128 + its number. */
enum { EXIT_DONE = 0, EXIT_USAGE = 2, EXIT_MODEL = 3, EXIT_INPUT = 4, EXIT_MEMORY = 5, EXIT_OUTPUT = 6, EXIT_RUN = 7 };

/* What the user called. */
extern const char program_name[];

/* One line on stderr, "edge8-run: ...", and the code as the result. */
int complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A file in memory, 64-byte aligned; release_file gives it back. */
struct file {
    const uint8_t *bytes;
    size_t size;
};
int map_file(const char *path, int code, struct file *file);
void release_file(struct file *file);

/* Write a whole file or nothing: a temporary file beside it is renamed when it is complete and on the disk. */
struct part {
    const void *bytes;
    size_t size;
};
int write_file(const char *path, const struct part *parts, size_t count);

/* Numbers on the command line: a whole number, or three ("a,b,c", or one for all). */
int whole_number(const char *name, const char *text, uint32_t most, uint32_t *value);
int three_numbers(const char *name, const char *text, bool zero, float values[3]);

bool ends_with(const char *text, const char *ending);

/* Names and sizes of the element types. */
const char *type_name(int32_t type);
size_t type_width(int32_t type);
uint64_t count_elements(const e8_tensor *t);
/* "[1, 3, 224, 224]" */
const char *shape_text(const e8_tensor *t, char *text, size_t size);

/* Element i of little-endian data, and the same stored in this machine's order. */
void swap_elements(void *bytes, size_t size, size_t width);
bool big_endian(void);

/* Preprocessing of a picture: (pixel - mean) / std per channel. */
struct picture_options {
    float mean[3], std[3];
    bool bgr;
};

/* Fill the memory of input `t` from a file: .npy, .ppm, .pgm, .bmp, else raw little-endian elements. */
int read_input(const char *path, const e8_tensor *t, void *data, const struct picture_options *options);

/* The same from a file that may hold several runs one after another (.npy, raw): run `part` of *parts. NULL: it must hold one. */
int read_part(const char *path, const e8_tensor *t, void *data, const struct picture_options *options, uint32_t part, uint32_t *parts);
int read_npy(const char *path, const struct file *file, const e8_tensor *t, void *data, uint32_t part, uint32_t *parts);
int read_picture(const char *path, const struct file *file, const e8_tensor *t, void *data, const struct picture_options *options);

/* Write an output: .npy, else raw little-endian elements. */
int write_output(const char *path, const e8_tensor *t, const void *data);

/* A model that runs. */
struct runner {
    e8_model model;
    e8_session session;
    const char *model_path;
    size_t file_bytes, arena_bytes;
    uint32_t threads;
    double open_ms;
    void *arena;
    e8_pool *pool;
};

/* Open the model of model_path for r->threads threads; take the memory and the threads of its session; give them back. */
int open_model(struct runner *r, const struct file *file);
int open_session(struct runner *r);
void close_session(struct runner *r);

/* From now on SIGINT and SIGTERM are remembered, with `once` only the first of them, and too large a file is an error of write. */
void catch_signals(bool once);
int caught_signal(void);

/* Run once on what the inputs hold. E8_ERR_STOPPED after SIGINT or SIGTERM. */
int run_once(struct runner *r);

/* Measure `runs` runs and print latencies; `ops` adds a table of operators, `record` (or NULL) names a JSON file. */
int measure(struct runner *r, uint32_t runs, bool ops, const char *record);

/* Keep the process on cores: "0,2", "big" or "little". */
int pin_cores(const char *cores);

/* The first bytes of a file as text; "" where there is none. */
void read_start(const char *path, char *text, size_t size);

/* Bytes of memory that the system can still give, or UINT64_MAX when it does not tell. */
uint64_t available_memory(void);

/* Degrees Celsius of the hottest zone and the clock of a core in kHz, or -1. */
double temperature(void);
long frequency(int core, const char *what);

#endif
