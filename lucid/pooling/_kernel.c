/* The compiled twin of sums.py: the same windows, the same order of addition, the same bits.
 *
 *     cells  ──columns──▶  bands   one value for each column of a window's rows, added top to bottom
 *     bands  ──fold─────▶  totals  the columns of each window, left to right
 *     totals ──finish───▶  means   divided and rounded once
 *
 * The source is (planes, H, W, inner): `inner` is 1 for NCHW and C for NHWC, where a column is a run of C
 * elements. The rows of a window are a run of W * inner elements each, so both layouts are the same loops.
 *
 * Every function that is marked ALWAYS takes constants for element type and kind, so the compiler makes a loop
 * of its own for each: this is C's template. A new element type is a row of ELEMENTS and a case of `element`.
 * Rows of small integers come first in that table, then small floats, float64, and large integers: `type < F2`,
 * `type < U4` tell them apart.
 *
 * Floats and narrow integers are added in float64; float64 carries the rounding errors along (Knuth's two-sum);
 * integers of 32 and 64 bits are added exactly, as two halves. Compile without -ffast-math and without
 * contraction of multiplications and additions: both change bits.
 */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))
/* The compiler's own multi-versioning; it needs ELF's indirect functions, which musl and macOS lack. By the name of
 * "avx2", since GCC knows "arch=x86-64-v3" from 12 on only. */
#if defined(__x86_64__) && defined(__GLIBC__) && __has_attribute(target_clones)
#define VERSIONS __attribute__((target_clones("default", "avx2")))
#else
#define VERSIONS
#endif

enum {
    SHORT = 32,     /* Rows up to so many elements are added eight at a time, in registers. */
    STRIP = 2048,   /* Elements of a band: with the cells that are read, it stays in the level-1 cache. */
    GROUP = 128,    /* Elements of bands that are folded at once, so that their latencies overlap, */
    LANES = 4,      /* and how many bands at least. */
    SEGMENT = 64,   /* Elements of a long row between two words to the memory about what comes next, */
    AHEAD = 4096,   /* and how many bytes ahead that is. */
    SHARES = 4,     /* Shares of the work for each thread. */
    PAD = 8,        /* Bands are whole multiples of so many elements, so that no loop has a rest. */
};

/* Name, C type of an element, kind of accumulator; in the order of the codes of dtypes.py. */
#define ELEMENTS(ROW) \
    ROW(BOOL, uint8_t, FLOAT) ROW(U1, uint8_t, FLOAT) ROW(I1, int8_t, FLOAT) ROW(U2, uint16_t, FLOAT) ROW(I2, int16_t, FLOAT) \
    ROW(F2, uint16_t, FLOAT) ROW(B2, uint16_t, FLOAT) ROW(F4, float, FLOAT) ROW(F8, double, DOUBLE) \
    ROW(U4, uint32_t, INTEGER) ROW(I4, int32_t, INTEGER) ROW(U8, uint64_t, INTEGER) ROW(I8, int64_t, INTEGER)
enum type {
#define ROW(name, ctype, kind) name,
    ELEMENTS(ROW)
#undef ROW
    TYPES
};
/* What sums of an element type are: a float64; one with its error; two halves of an integer. */
enum kind { FLOAT, DOUBLE, INTEGER };
/* What is done with the cells of a window: added, all or but for NaN, for a missing value, for both; or compared. The least
 * is the greatest of the negated. */
enum way { ADD, ADD_NUMBERS, ADD_PRESENT, ADD_VALID, GREATEST };
enum reduction { MEAN, SUM, MAX, MIN };

/* A word of an accumulator: a float64 or an integer. */
typedef union {
    double f;
    int64_t i;
} word;

/* Accumulators side by side: sums, their errors (DOUBLE) or lower halves (INTEGER), and numbers of valid cells. */
typedef struct {
    word *sum, *low;
    int32_t *count;
} band;

static const word NONE = {0};

ALWAYS band moved(band b, Py_ssize_t by) { return (band){b.sum + by, b.low + by, b.count + by}; }

/* The windows of an axis that are wanted: [starts[i], stops[i]). */
typedef struct {
    Py_ssize_t count;
    int64_t *starts, *stops;
    int64_t shortest, longest;
    int64_t even;           /* the length of all of them where they follow each other without overlap, else 0 */
} axis;

typedef struct {
    const char *source, *end;
    char *out;
    Py_ssize_t planes, plane_stride, row_stride, inner, size;
    Py_ssize_t out_strides[4];              /* of planes, rows, columns, inner */
    bool scatters;                          /* whether results do not lie one after the other */
    axis rows, cols;
    enum type type, result;
    enum reduction reduction;
    bool skips, skips_nan, has_missing;     /* skips: some cells may count as nothing */
    word missing;                           /* a number of the source's type, or none: NaN, INT32_MIN */
    word fill;                              /* fill: the result of a window without valid cells, where it is no float */
    double min_valid;
} job;

/* The rows of a window: where they begin, and how many they are. */
typedef struct {
    const char *rows;
    int64_t height;
} run;

/* ---------------------------------------------------------------- elements */

ALWAYS double from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* float16: exponent and fraction are shifted to their places in a float32, and 2**112 mends the bias, exactly. */
ALWAYS double half(uint16_t h) {
    uint32_t bits = ((uint32_t)(int32_t)(int16_t)h << 13) & 0x8fffe000u;
    uint32_t infinite = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    float value;
    memcpy(&value, &bits, 4);
    value *= 0x1p112f;
    memcpy(&bits, &value, 4);
    return from_bits(bits | infinite);
}

/* Element i of a run of integers of 8 and 16 bits. */
ALWAYS int32_t small(const enum type type, const char *run, Py_ssize_t i) {
    switch (type) {
    case BOOL: return ((const uint8_t *)run)[i] != 0;
    case U1: return ((const uint8_t *)run)[i];
    case I1: return ((const int8_t *)run)[i];
    case U2: return ((const uint16_t *)run)[i];
    default: return ((const int16_t *)run)[i];
    }
}

/* Element i of a run, as float64. */
ALWAYS double element(const enum type type, const char *run, Py_ssize_t i) {
    switch (type) {
    case F2: return half(((const uint16_t *)run)[i]);
    case B2: return from_bits((uint32_t)((const uint16_t *)run)[i] << 16);
    case F4: return ((const float *)run)[i];
    case F8: return ((const double *)run)[i];
    default: return small(type, run, i);
    }
}

/* Cells that count as nothing, as they are compared. Loops hold a copy, so that the compiler reads it once. */
typedef struct {
    uint64_t keeps_nan;     /* all bits, or none where NaN counts as nothing */
    double value;
    float single;
    int32_t small;
} nothing;

/* Whether `x` counts, as a mask: one comparison where one is enough. */
#define COUNTS(bits, x, missing) \
    (way == ADD_NUMBERS ? -(bits)(x == x) : way == ADD_PRESENT ? -(bits)(x != missing) \
                        : (-(bits)(x == x) | (bits)no.keeps_nan) & -(bits)(x != missing))

/* The same, 0 where it does not count, and whether it does. Compared in its own type and masked as bits: registers hold
 * most of that at once, and compilers see it. */
ALWAYS double valid_element(const enum type type, const enum way way, const char *run, Py_ssize_t i, const nothing no, int32_t *valid) {
    if (type == F8) {
        double x = ((const double *)run)[i];
        uint64_t bits, mask = COUNTS(uint64_t, x, no.value);
        memcpy(&bits, &x, 8);
        bits &= mask;
        memcpy(&x, &bits, 8);
        *valid = (int32_t)(mask & 1);
        return x;
    }
    if (type < F2) {
        int32_t x = small(type, run, i);
        int32_t mask = -(x != no.small);
        *valid = -mask;
        return x & mask;
    }
    float x = (float)element(type, run, i);
    uint32_t bits, mask = COUNTS(uint32_t, x, no.single);
    memcpy(&bits, &x, 4);
    *valid = -(int32_t)mask;
    return from_bits(bits & mask);
}

/* Element i of a run of integers of 32 and 64 bits; the bits of uint64 are kept. */
ALWAYS int64_t integer(const enum type type, const char *run, Py_ssize_t i) {
    switch (type) {
    case U4: return ((const uint32_t *)run)[i];
    case I4: return ((const int32_t *)run)[i];
    default: return ((const int64_t *)run)[i];
    }
}

/* ---------------------------------------------------------------- columns */

/* One cell more for a column: `first` says that there was none before. */
ALWAYS void step(const nothing no, const enum type type, const enum way way, const double sign, const bool first,
                 const char *run, Py_ssize_t i, double *sum, double *low, int32_t *count) {
    int32_t valid = 1;
    double x = way == ADD ? element(type, run, i) : valid_element(type, way, run, i, no, &valid);
    if (way != ADD) *count = first ? valid : *count + valid;
    if (way == GREATEST) {
        /* NaN is greater than all if it counts. */
        double before = first ? -INFINITY : *sum;
        x *= sign;
        x = ((x > before) | (x != x)) ? x : before;
        *sum = valid ? x : before;
    } else if (first) {
        *sum = x;
        *low = 0;
    } else {
        double before = *sum, after = before + x, added = after - before;
        *sum = after;
        if (type == F8) *low += (before - (after - added)) + (x - added);
    }
}

/* One cell more of integers of 8 and 16 bits. */
ALWAYS void add_small(const nothing no, const enum type type, const enum way way, const char *run, Py_ssize_t i, int32_t *sum,
                      int32_t *count) {
    int32_t x = small(type, run, i), mask = way == ADD ? -1 : -(x != no.small);
    *sum += x & mask;
    *count -= mask;
}

#define EIGHT(CELL) CELL(0) CELL(1) CELL(2) CELL(3) CELL(4) CELL(5) CELL(6) CELL(7)

/* Cells of 8 bits, `h` of a column; how many count. Missing ones are added, too, and then taken away: eight cells fit
 * 16 bits and their number fits 8, so registers hold most of both. */
ALWAYS int32_t add_bytes(const nothing no, const enum type type, const char *run, Py_ssize_t pitch, const int h, Py_ssize_t i,
                         int32_t *total) {
    int16_t sum = 0;
    uint8_t missing = 0;
#define CELL(r) if (h > r) sum += small(type, run + r * pitch, i), missing += (uint8_t)small(type, run + r * pitch, i) == (uint8_t)no.small;
    EIGHT(CELL)
#undef CELL
    *total = (int16_t)(sum - (int16_t)missing * (int16_t)no.small);
    return h - missing;
}

/* Adds `h` rows to the band, all at once: each band is read and written once. */
ALWAYS void rows_at_once(const job *j, const enum type type, const enum way way, double sign, band b, const char *rows,
                         Py_ssize_t pitch, const int h, const bool first, Py_ssize_t n) {
    double *restrict sums = &b.sum->f, *restrict lows = &b.low->f;
    int32_t *restrict counts = b.count;
    const char *restrict cells = rows;
    const nothing no = {-(uint64_t)!j->skips_nan, j->missing.f, (float)j->missing.f, (int32_t)j->missing.i};
    _Pragma("omp simd")
    for (Py_ssize_t v = 0; v < n; v++) {
        if (type < F2 && way != GREATEST) {
            /* Eight of them fit 32 bits, and are converted once. */
            int32_t total = 0, valid = 0;
#define CELL(r) if (h > r) add_small(no, type, way, cells + r * pitch, v, &total, &valid);
            if (type < U2 && way != ADD) valid = add_bytes(no, type, cells, pitch, h, v, &total);
            else { EIGHT(CELL) }
#undef CELL
            sums[v] = first ? total : sums[v] + total;
            if (way != ADD) counts[v] = first ? valid : counts[v] + valid;
            continue;
        }
        double sum = first ? 0 : sums[v], low = first || type != F8 ? 0 : lows[v];
        int32_t count = first || way == ADD ? 0 : counts[v];
#define CELL(r) if (h > r) step(no, type, way, sign, first && r == 0, cells + r * pitch, v, &sum, &low, &count);
        EIGHT(CELL)
#undef CELL
        sums[v] = sum;
        if (type == F8) lows[v] = low;
        if (way != ADD) counts[v] = count;
    }
}

/* Short rows, and those of columns that are runs themselves: up to eight at once, and any further ones by four and one. */
ALWAYS void short_rows(const job *j, const enum type type, const enum way way, double sign, band b, const char *rows,
                       Py_ssize_t pitch, int64_t h, Py_ssize_t n) {
    switch (h) {
#define CASE(h) case h: rows_at_once(j, type, way, sign, b, rows, pitch, h, true, n); return;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
#undef CASE
    default: rows_at_once(j, type, way, sign, b, rows, pitch, 8, true, n);
    }
    for (h -= 8, rows += 8 * pitch; h >= 4; h -= 4, rows += 4 * pitch)
        rows_at_once(j, type, way, sign, b, rows, pitch, 4, false, n);
    for (; h > 0; h--, rows += pitch) rows_at_once(j, type, way, sign, b, rows, pitch, 1, false, n);
}

/* One row of integers of 32 and 64 bits: the upper halves are added, and the lower ones. */
ALWAYS void integer_row(const job *j, const enum type type, const enum way way, int64_t flip, band b, const char *row,
                        const bool first, Py_ssize_t n) {
    int64_t *restrict highs = &b.sum->i, *restrict lows = &b.low->i;
    int32_t *restrict counts = b.count;
    const int64_t missing = j->missing.i;
    const bool has_missing = j->has_missing;
    for (Py_ssize_t v = 0; v < n; v++) {
        int64_t x = integer(type, row, v);
        bool valid = !has_missing | (x != missing);
        if (way == GREATEST) {
            x ^= flip;
            int64_t before = first ? INT64_MIN : highs[v];
            highs[v] = (valid & (x > before)) ? x : before;
        } else {
            x = valid ? x : 0;
            int64_t high = type == U8 ? (int64_t)((uint64_t)x >> 32) : x >> 32;
            highs[v] = first ? high : highs[v] + high;
            lows[v] = (first ? 0 : lows[v]) + (x & 0xffffffff);
        }
        if (way != ADD) counts[v] = (first ? 0 : counts[v]) + valid;
    }
}

/* Elements [from, from + n) of the rows of `count` windows to as many bands, `width` apart. */
ALWAYS void columns(const job *j, const enum type type, const enum way way, const run *runs, Py_ssize_t count, band b,
                    Py_ssize_t width, Py_ssize_t from, Py_ssize_t n) {
    const Py_ssize_t size = j->size, pitch = j->row_stride;
    const double sign = j->reduction == MIN ? -1 : 1;
    if ((type < F2 || type > F8) && (way == ADD_NUMBERS || way == ADD_VALID)) return;   /* integers have no NaN */
    const int64_t flip = (j->reduction == MIN ? -1 : 0) ^ (type == U8 ? INT64_MIN : 0);
    for (Py_ssize_t k = 0; k < count; k++) {
        const char *rows = runs[k].rows + from * size;
        int64_t h = runs[k].height;
        if (type < U4 && way != GREATEST && (n <= SHORT || j->inner > 1 || (type < F2 && (size == 1 || n <= 4 * SHORT)))) {
            /* What is read behind a row is within the array, and what becomes of it is not looked at. */
            const Py_ssize_t padded = (n + PAD - 1) / PAD * PAD;
            const bool has_room = rows + (pitch > 0 ? (h - 1) * pitch : 0) + padded * size <= j->end;
            short_rows(j, type, way, sign, b, rows, pitch, h, has_room ? padded : n);
        } else {
            for (int64_t r = 0; r < h; r++, rows += pitch) {
                for (Py_ssize_t v = 0; v < n; v += SEGMENT) {
                    const char *cells = rows + v * size;
                    Py_ssize_t m = n - v < SEGMENT ? n - v : SEGMENT;
                    band here = {b.sum + v, b.low + v, b.count + v};
                    /* The memory is read in order, but the processor does not see it through the bands. */
                    for (Py_ssize_t c = 0; c < m * size; c += 64) __builtin_prefetch(cells + AHEAD + c);
                    if (type >= U4) {
                        if (r == 0) integer_row(j, type, way, flip, here, cells, true, m);
                        else integer_row(j, type, way, flip, here, cells, false, m);
                    } else if (r == 0) rows_at_once(j, type, way, sign, here, cells, 0, 1, true, m);
                    else rows_at_once(j, type, way, sign, here, cells, 0, 1, false, m);
                }
            }
        }
        /* What the lower halves carry goes to the upper ones, so that they have room for 2**31 rows and as many columns. */
        for (Py_ssize_t v = 0; type >= U4 && way != GREATEST && v < n; v++)
            b.sum[v].i += b.low[v].i >> 32, b.low[v].i &= 0xffffffff;
        b = moved(b, width);
    }
}

typedef void columns_of(const job *, const run *, Py_ssize_t, band, Py_ssize_t, Py_ssize_t, Py_ssize_t);
#define DEFINE(name, type, way) \
    VERSIONS static void name(const job *j, const run *r, Py_ssize_t k, band b, Py_ssize_t w, Py_ssize_t from, Py_ssize_t n) { \
        columns(j, type, way, r, k, b, w, from, n); \
    }
#define ROW(name, ctype, kind) \
    DEFINE(name##_add, name, ADD) DEFINE(name##_add_numbers, name, ADD_NUMBERS) DEFINE(name##_add_present, name, ADD_PRESENT) \
    DEFINE(name##_add_valid, name, ADD_VALID) DEFINE(name##_greatest, name, GREATEST)
ELEMENTS(ROW)
#undef ROW
static const struct {
    columns_of *columns[5];
    Py_ssize_t size;
    enum kind kind;
} TABLE[TYPES] = {
#define ROW(name, ctype, kind) {{name##_add, name##_add_numbers, name##_add_present, name##_add_valid, name##_greatest}, sizeof(ctype), kind},
    ELEMENTS(ROW)
#undef ROW
};

/* ---------------------------------------------------------------- fold */

/* Totals of `w` columns each, which lie `apart`, and `next` those of the next total: the compiler adds several at a time. */
#define FOLD_FEW(name, ctype) \
    ALWAYS void name(ctype *restrict totals, const ctype *restrict columns, const int w, Py_ssize_t next, Py_ssize_t apart, \
                     int64_t count) { \
        for (int64_t i = 0; i < count; i++) { \
            ctype total = columns[i * next]; \
            _Pragma("GCC unroll 8") \
            for (int c = 1; c < w; c++) total += columns[i * next + c * apart]; \
            totals[i] = total; \
        } \
    }
FOLD_FEW(fold_few_sums, double)
FOLD_FEW(fold_few_counts, int32_t)
#undef FOLD_FEW

/* The sums and counts of one to eight columns: most of what is asked for. */
ALWAYS void fold_few(const enum way way, band t, band b, int64_t w, const bool across, Py_ssize_t apart, int64_t count) {
    switch (w) {
#define CASE(w) \
    case w: \
        fold_few_sums(&t.sum->f, &b.sum->f, w, across ? w : 1, across ? 1 : apart, count); \
        if (way != ADD) fold_few_counts(t.count, b.count, w, across ? w : 1, across ? 1 : apart, count); \
        return;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    }
}

/* Puts a column behind those that a total has. */
ALWAYS void join(const enum kind kind, const enum way way, const bool first, word *sum, word *low, int32_t *count, word more,
                 word error, int32_t valid) {
    if (way != ADD) *count = first ? valid : *count + valid;
    if (kind == INTEGER) {
        if (way == GREATEST) sum->i = first || more.i > sum->i ? more.i : sum->i;
        else sum->i = first ? more.i : sum->i + more.i, low->i = first ? error.i : low->i + error.i;
    } else if (way == GREATEST) {
        sum->f = first || more.f > sum->f || more.f != more.f ? more.f : sum->f;
    } else if (first) {
        *sum = more;
        if (kind == DOUBLE) *low = error;
    } else {
        double before = sum->f, after = before + more.f, added = after - before;
        sum->f = after;
        if (kind == DOUBLE) low->f += ((before - (after - added)) + (more.f - added)) + error.f;
    }
}

/* The first window that ends behind a place. */
static Py_ssize_t window_at(axis a, int64_t place) {
    Py_ssize_t low = 0, high = a.count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (a.stops[middle] <= place) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Columns [left, right) of a band to the totals of the windows that have some of them. */
ALWAYS void fold_columns(const job *j, const enum kind kind, const enum way way, band b, int64_t left, int64_t right, band t) {
    const Py_ssize_t inner = j->inner;
    for (Py_ssize_t i = window_at(j->cols, left); i < j->cols.count && j->cols.starts[i] < right; i++) {
        int64_t start = j->cols.starts[i], stop = j->cols.stops[i];
        word *restrict sum = t.sum + i * inner, *restrict low = t.low + i * inner;
        int32_t *restrict count = t.count + i * inner;
        int64_t c = start > left ? start : left;
        if (kind == FLOAT && way != GREATEST && c == start) {
            const int64_t there = (stop < right ? stop : right) - c, few = there < 8 ? there : 8;
            fold_few(way, moved(t, i * inner), moved(b, (c - left) * inner), few, false, inner, inner);
            c += few;
        }
        for (; c < stop && c < right; c++) {
            const Py_ssize_t at = (c - left) * inner;
            const word *restrict more = b.sum + at, *restrict error = b.low + at;
            const int32_t *restrict valid = b.count + at;
#define JOIN(first) \
    for (Py_ssize_t k = 0; k < inner; k++) \
        join(kind, way, first, sum + k, low + k, count + k, more[k], kind == FLOAT ? NONE : error[k], way == ADD ? 0 : valid[k])
            if (c == start) JOIN(true);
            else JOIN(false);
#undef JOIN
        }
    }
}

/* The same for the whole bands of `lanes` rows of windows, where a column is one element. Each addition waits for the one
 * before, so the bands are folded side by side. */
ALWAYS void fold_bands(const job *j, const enum kind kind, const enum way way, const int lanes, band b, Py_ssize_t width, band t) {
    const Py_ssize_t cols = j->cols.count;
    for (Py_ssize_t i = 0; i < cols; i++) {
        const int64_t start = j->cols.starts[i], stop = j->cols.stops[i];
        word sum[LANES], low[LANES] = {{0}};
        int32_t valid[LANES] = {0};
#define JOIN(first, c) \
    for (int l = 0; l < lanes; l++) \
        join(kind, way, first, &sum[l], &low[l], &valid[l], b.sum[l * width + (c)], kind == FLOAT ? NONE : b.low[l * width + (c)], \
             way == ADD ? 0 : b.count[l * width + (c)])
        JOIN(true, start);
        for (int64_t c = start + 1; c < stop; c++) {
            /* The compiler takes one lane after the other, which the processor overlaps; not so the many steps of two-sum. */
            if (kind == DOUBLE && way == ADD) {
                _Pragma("omp simd")
                JOIN(false, c);
            } else JOIN(false, c);
        }
#undef JOIN
        for (int l = 0; l < lanes; l++) {
            t.sum[l * cols + i] = sum[l];
            if (kind != FLOAT) t.low[l * cols + i] = low[l];
            if (way != ADD) t.count[l * cols + i] = valid[l];
        }
    }
}

ALWAYS void fold_kind(const job *j, const enum kind kind, const enum way way, band b, Py_ssize_t width, Py_ssize_t count,
                      int64_t left, int64_t right, bool whole, band t) {
    const Py_ssize_t each = j->cols.count * j->inner;
    for (Py_ssize_t k = 0, lanes; k < count; k += lanes) {
        lanes = whole && count - k >= LANES ? LANES : 1;
        if (lanes == LANES) fold_bands(j, kind, way, LANES, b, width, t);
        else if (whole) fold_bands(j, kind, way, 1, b, width, t);
        else fold_columns(j, kind, way, b, left, right, t);
        b = moved(b, lanes * width), t = moved(t, lanes * each);
    }
}

VERSIONS static void fold(const job *j, enum kind kind, enum way way, band b, Py_ssize_t width, Py_ssize_t count, int64_t left,
                          int64_t right, band t) {
    /* Windows of a few columns each, without overlap, are most of what is asked for. */
    const bool whole = j->inner == 1 && left == 0 && right == j->cols.stops[j->cols.count - 1];
    const bool is_even = whole && kind == FLOAT && j->cols.even > 0 && j->cols.even <= 8 && j->cols.count > 1;
    const int64_t w = j->cols.even, cols = j->cols.count;
    if (is_even && way == ADD)
        for (Py_ssize_t k = 0; k < count; k++) fold_few(ADD, moved(t, k * cols), moved(b, k * width), w, true, 1, cols);
    else if (is_even && way != GREATEST)
        for (Py_ssize_t k = 0; k < count; k++) fold_few(ADD_VALID, moved(t, k * cols), moved(b, k * width), w, true, 1, cols);
#define CASE(of, by) else if (kind == of && way == by) fold_kind(j, of, by, b, width, count, left, right, whole, t);
    CASE(FLOAT, ADD) CASE(FLOAT, ADD_VALID)
    CASE(DOUBLE, ADD) CASE(DOUBLE, ADD_VALID)
    CASE(INTEGER, ADD) CASE(INTEGER, ADD_VALID) CASE(INTEGER, GREATEST)
    else fold_kind(j, FLOAT, GREATEST, b, width, count, left, right, whole, t);
#undef CASE
}

/* ---------------------------------------------------------------- finish */

/* (sum + low) / cells to within an ulp, and exactly where all cells are equal: the remainder of a first quotient is
 * divided, too. The product is exact by Veltkamp's split, since the twin in NumPy has no fused one. */
ALWAYS double divided(double sum, double low, double cells) {
    bool is_large = fabs(sum) > 0x1p960;
    double scale = is_large ? 0x1p-64 : 1, inverse = 1 / cells;
    sum *= scale, low *= scale;
    double quotient = (sum + low) * inverse, product = quotient * cells;
    double split = quotient * 134217729.0, upper = split - (split - quotient), lower = quotient - upper;
    split = cells * 134217729.0;
    double cells_upper = split - (split - cells), cells_lower = cells - cells_upper;
    double error = ((upper * cells_upper - product) + upper * cells_lower + lower * cells_upper) + lower * cells_lower;
    double rest = ((sum - product) - error) + low;
    return (quotient + rest * inverse) * (is_large ? 0x1p64 : 1);
}

/* The quotient of integers, correctly rounded. */
static double quotient_of(__int128 sum, int64_t cells) {
    if (sum > -(1LL << 53) && sum < 1LL << 53) return (double)(int64_t)sum / (double)cells;
    unsigned __int128 size = sum < 0 ? -(unsigned __int128)sum : (unsigned __int128)sum;
    int shift = (uint64_t)(size >> 64) ? __builtin_clzll((uint64_t)(size >> 64)) : 64 + __builtin_clzll((uint64_t)size);
    size <<= shift;
    /* Of 64 bits and more, the last may stand for all that are cut off. */
    unsigned __int128 whole = size / (uint64_t)cells;
    double quotient = ldexp((double)(whole | (size % (uint64_t)cells != 0)), -shift);
    return sum < 0 ? -quotient : quotient;
}

/* The integer nearest to a quotient, ties to even. */
static __int128 nearest(__int128 sum, int64_t cells) {
    __int128 whole = sum / cells, rest = sum % cells;
    if (rest < 0) whole -= 1, rest += cells;
    return whole + (2 * rest > cells || (2 * rest == cells && (whole & 1)));
}

/* The sum or mean of a window of float64 again, scaled by 2**-64: what overflowed in between may be finite in the end. */
static double scaled_again(const job *j, run r, Py_ssize_t col, Py_ssize_t k, double cells) {
    word total = {0}, total_low = {0};
    for (int64_t c = j->cols.starts[col]; c < j->cols.stops[col]; c++) {
        word sum = {0}, low = {0};
        for (int64_t i = 0; i < r.height; i++) {
            double x = ((const double *)(r.rows + i * j->row_stride))[c * j->inner + k];
            if ((x != x && j->skips_nan) || x == j->missing.f) continue;
            if (x != x) return x;
            join(DOUBLE, ADD, false, &sum, &low, NULL, (word){x * 0x1p-64}, NONE, 0);
        }
        join(DOUBLE, ADD, false, &total, &total_low, NULL, sum, low, 0);
    }
    if (!isfinite(total.f)) return total.f;
    return j->reduction == MEAN ? divided(total.f, total_low.f, cells) : total.f + total_low.f;
}

/* A float64 to a format of 16 bits: nearest, ties to even; what is too large becomes infinite. */
static uint16_t narrowed(double x, int fraction, int bias) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    uint64_t sign = bits >> 63 << 15, infinity = ((1u << (15 - fraction)) - 1) << fraction;
    if (x != x) return infinity | 1u << (fraction - 1);
    int64_t exponent = (int64_t)(bits >> 52 & 0x7ff) - 1023 + bias;
    int64_t shift = 52 - fraction + (exponent < 1 ? 1 - exponent : 0);
    if (shift > 54) return sign;
    uint64_t digits = (bits & 0xfffffffffffffu) | 1ull << 52;
    uint64_t rounded = (digits + (1ull << (shift - 1)) - 1 + (digits >> shift & 1)) >> shift;
    rounded += exponent < 1 ? 0 : (uint64_t)(exponent - 1) << fraction;
    return sign | (rounded < infinity ? rounded : infinity);
}

/* Stores a result at `out`; whether it was finite and the result's type has only an infinity or a limit for it. */
ALWAYS bool store(const enum type type, char *out, double value) {
    float single;
    uint16_t bits;
    switch (type) {
    case F8: memcpy(out, &value, 8); return false;
    case F4: single = (float)value; memcpy(out, &single, 4); return isinf(single) && !isinf(value);
    case F2: bits = narrowed(value, 10, 15); memcpy(out, &bits, 2); return (bits & 0x7fff) == 0x7c00 && !isinf(value);
    default: bits = narrowed(value, 7, 127); memcpy(out, &bits, 2); return (bits & 0x7fff) == 0x7f80 && !isinf(value);
    }
}

static bool store_integer(enum type type, char *out, __int128 value) {
    switch (type) {
#define CASE(name, ctype, least, most) \
    case name: { \
        ctype kept = value < (__int128)least ? least : value > (__int128)most ? most : (ctype)value; \
        memcpy(out, &kept, sizeof kept); \
        return kept != value; \
    }
    CASE(BOOL, uint8_t, 0, 1) CASE(U1, uint8_t, 0, UINT8_MAX) CASE(I1, int8_t, INT8_MIN, INT8_MAX) CASE(U2, uint16_t, 0, UINT16_MAX)
    CASE(I2, int16_t, INT16_MIN, INT16_MAX) CASE(U4, uint32_t, 0, UINT32_MAX) CASE(I4, int32_t, INT32_MIN, INT32_MAX)
    CASE(U8, uint64_t, 0, UINT64_MAX) CASE(I8, int64_t, INT64_MIN, INT64_MAX)
#undef CASE
    default: return false;
    }
}

static bool store_float(enum type type, char *out, double value) {
    return store(type, out, value != value ? NAN : value);
}

/* Any total to its place: for all that `means` leaves. */
static bool finish_one(const job *j, word sum, word low, double valid, double cells, run r, Py_ssize_t col, Py_ssize_t k,
                       char *out) {
    const bool to_float = TABLE[j->result].kind != INTEGER && j->result >= F2;
    const bool is_mean = j->reduction == MEAN, is_extreme = j->reduction >= MAX;
    if (valid == 0 || valid < j->min_valid * cells) {
        if (to_float) return store_float(j->result, out, NAN);
        return store_integer(j->result, out, j->result == U8 ? (__int128)(uint64_t)j->fill.i : j->fill.i), false;
    }
    if (TABLE[j->type].kind == INTEGER) {
        int64_t x = sum.i ^ (j->reduction == MIN ? -1 : 0) ^ (j->type == U8 ? INT64_MIN : 0);
        __int128 exact = !is_extreme ? (__int128)sum.i * ((__int128)1 << 32) + low.i : j->type == U8 ? (__int128)(uint64_t)x : x;
        int64_t divisor = is_mean ? (int64_t)valid : 1;
        return to_float ? store_float(j->result, out, quotient_of(exact, divisor))
                        : store_integer(j->result, out, nearest(exact, divisor));
    }
    double value = sum.f;
    bool exceeds = false;
    if (is_extreme) value = j->reduction == MIN ? -value : value;
    else if (j->type != F8) value = is_mean ? value / valid : value;
    else if (!isfinite(sum.f) || !isfinite(low.f)) {
        double scaled = scaled_again(j, r, col, k, valid);
        value = scaled * 0x1p64, exceeds = isfinite(scaled) && !isfinite(value);
    } else value = is_mean ? divided(sum.f, low.f, valid) : sum.f + low.f;
    if (to_float) return store_float(j->result, out, value) || exceeds;
    return store_integer(j->result, out, isfinite(value) ? (__int128)rint(value) : 0);
}

/* What is asked for most, means as floats, in loops of which the compiler does several rounds at a time. `*finite` says
 * whether all totals were. */
ALWAYS int64_t means(const enum kind kind, const enum type result, const bool skips, const job *j, band t,
                     const double *restrict cells, Py_ssize_t count, char *restrict out, bool *finite) {
    const double *restrict sums = &t.sum->f, *restrict lows = &t.low->f;
    const double min_valid = j->min_valid;
    int64_t overflows = 0;
    int64_t infinite = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        double valid = skips ? t.count[i] : cells[i];
        double value = kind == DOUBLE ? divided(sums[i], lows[i], valid) : sums[i] / valid;
        if (kind == DOUBLE) infinite |= (sums[i] + lows[i]) * 0 != 0;
        if (skips) value = valid < min_valid * cells[i] ? NAN : value;  /* 0 / 0 is NaN by itself */
        value = value != value ? NAN : value;
        if (result == F8) ((double *)out)[i] = value;
        else if (result == F4) ((float *)out)[i] = (float)value;  /* which holds the mean of whatever a float32 holds */
        else overflows += store(result, out + i * 2, value);
    }
    *finite = infinite == 0;
    return overflows;
}

/* Stores the totals of windows' rows, one after the other; how many finite results became infinite. `skips` says that
 * the totals count their cells. */
VERSIONS static int64_t finish(const job *j, band t, bool skips, const double *cells, const run *runs, Py_ssize_t count, char *out) {
    const enum kind kind = TABLE[j->type].kind;
    const Py_ssize_t inner = j->inner, each = j->cols.count * inner, size = TABLE[j->result].size;
    bool finite = false;
    int64_t overflows = 0;
#define CASE(of, type) \
    if (j->reduction == MEAN && kind == of && j->result == type) \
        overflows = skips ? means(of, type, true, j, t, cells, count * each, out, &finite) \
                          : means(of, type, false, j, t, cells, count * each, out, &finite);
    CASE(FLOAT, F4) CASE(FLOAT, F2) CASE(FLOAT, B2) CASE(DOUBLE, F8)
#undef CASE
    if (finite) return overflows;
    const bool is_there = kind == DOUBLE && j->reduction == MEAN && j->result == F8;
    for (Py_ssize_t i = 0; i < count * each; i++) {
        if (is_there && (t.sum[i].f + t.low[i].f) * 0 == 0) continue;
        overflows += finish_one(j, t.sum[i], t.low[i], skips ? t.count[i] : cells[i], cells[i], runs[i / each],
                                i % each / inner, i % inner, out + i * size);
    }
    return overflows;
}

/* ---------------------------------------------------------------- all of it */

/* Results of windows' rows, from the row with number `first` on, to their places. */
static void scatter(const job *j, const char *results, Py_ssize_t first, Py_ssize_t count) {
    const Py_ssize_t *to = j->out_strides, cols = j->cols.count, inner = j->inner;
    for (Py_ssize_t k = 0; k < count; k++) {
        char *row = j->out + (first + k) / j->rows.count * to[0] + (first + k) % j->rows.count * to[1];
        switch (TABLE[j->result].size) {
#define CASE(size) \
        case size: \
            for (Py_ssize_t q = 0; q < inner; q++) { \
                const char *restrict from = results + (k * cols * inner + q) * size; \
                char *restrict place = row + q * to[3]; \
                _Pragma("GCC unroll 4") \
                for (Py_ssize_t i = 0; i < cols; i++, from += inner * size, place += to[2]) memcpy(place, from, size); \
            } \
            break;
        CASE(1) CASE(2) CASE(4) CASE(8)
#undef CASE
        }
    }
}

/* What `pool` works with. Bands and totals are those of `group` windows' rows. */
typedef struct {
    Py_ssize_t group, strip, width;     /* rows of windows at once; columns at once; elements of a band */
    band bands, totals;
    double *cells, *widths;             /* the numbers of all cells of totals; the columns of each window */
    run *runs;
    char *results;                      /* where they wait for `scatter` */
    enum way way;                       /* in which the last group was added */
} desk;

/* The totals of `count` rows of windows. */
static void total(const job *j, enum way way, const desk *d, Py_ssize_t count) {
    const int64_t last = j->cols.stops[j->cols.count - 1];
    for (int64_t left = 0; left < last; left += d->strip) {
        int64_t right = left + d->strip < last ? left + d->strip : last;
        TABLE[j->type].columns[way](j, d->runs, count, d->bands, d->width, left * j->inner, (right - left) * j->inner);
        fold(j, TABLE[j->type].kind, way == ADD || way == GREATEST ? way : ADD_VALID, d->bands, d->width, count, left, right, d->totals);
    }
}

/* Whether all of `n` sums are numbers. */
ALWAYS bool are_numbers(const word *sums, Py_ssize_t n) {
    bool any = false;
    for (Py_ssize_t i = 0; i < n; i++) any |= sums[i].f != sums[i].f;
    return !any;
}

/* Whether all cells of `n` windows count. */
ALWAYS bool all_count(const int32_t *counts, const double *cells, Py_ssize_t n) {
    bool any = false;
    for (Py_ssize_t i = 0; i < n; i++) any |= counts[i] != cells[i];
    return !any;
}

/* Pools rows of windows [first, last), counted through all planes; how many finite results became infinite. */
static int64_t pool(const job *j, desk *d, Py_ssize_t first, Py_ssize_t last) {
    const Py_ssize_t each = j->cols.count * j->inner;
    const bool looks_for_nan = j->reduction < MAX && j->skips_nan && !j->has_missing;
    for (Py_ssize_t i = 0, at = 0; i < j->cols.count; i++)
        for (Py_ssize_t q = 0; q < j->inner; q++) d->widths[at++] = (double)(j->cols.stops[i] - j->cols.starts[i]);
    enum way way = d->way;
    int64_t overflows = 0;
    Py_ssize_t plane = first / j->rows.count, row = first % j->rows.count;
    for (Py_ssize_t done = first; done < last; done += d->group) {
        Py_ssize_t count = last - done < d->group ? last - done : d->group;
        for (Py_ssize_t k = 0; k < count; k++) {
            int64_t height = j->rows.stops[row] - j->rows.starts[row];
            d->runs[k] = (run){j->source + plane * j->plane_stride + j->rows.starts[row] * j->row_stride, height};
            if (done == first || j->rows.shortest < j->rows.longest)
                for (Py_ssize_t i = 0; i < each; i++) d->cells[k * each + i] = (double)height * d->widths[i];
            if (++row == j->rows.count) row = 0, plane++;
        }
        total(j, way, d, count);
        /* NaN shows in the totals. Only then are cells looked at one by one, and until a group is without NaN. */
        if (looks_for_nan && way == ADD && !are_numbers(d->totals.sum, count * each)) total(j, way = ADD_NUMBERS, d, count);
        char *const out = j->scatters ? d->results : j->out + done * each * TABLE[j->result].size;
        overflows += finish(j, d->totals, j->skips && way != ADD, d->cells, d->runs, count, out);
        if (j->scatters) scatter(j, out, done, count);
        if (looks_for_nan && way == ADD_NUMBERS && all_count(d->totals.count, d->cells, count * each)) way = ADD;
    }
    d->way = way;
    return overflows;
}

/* A thread at its desk, and the shares of the work that none has taken yet. */
typedef struct {
    const job *j;
    desk d;
    Py_ssize_t *next, share;
    int64_t overflows;
    pthread_t thread;
    bool is_begun, is_done;
} worker;

static void *work(void *of) {
    worker *w = of;
    const Py_ssize_t windows = w->j->planes * w->j->rows.count;
    Py_ssize_t first;
    while ((first = __atomic_fetch_add(w->next, w->share, __ATOMIC_RELAXED)) < windows)
        w->overflows += pool(w->j, &w->d, first, windows - first < w->share ? windows : first + w->share);
    __atomic_store_n(&w->is_done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* The work of all; the calling thread is one of them, and does what others cannot be had for. */
static int64_t work_together(worker *workers, Py_ssize_t count) {
    int64_t overflows = 0;
    for (Py_ssize_t i = 1; i < count; i++) workers[i].is_begun = pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0;
    work(&workers[0]);
    for (Py_ssize_t i = 0; i < count; i++) {
        while (workers[i].is_begun && !__atomic_load_n(&workers[i].is_done, __ATOMIC_ACQUIRE)) sched_yield();
        if (workers[i].is_begun) pthread_detach(workers[i].thread);
        overflows += workers[i].overflows;
    }
    return overflows;
}

/* The windows [first, first + count) of `n_out` over `n_in` cells, counted from the first cell that they cover. */
static axis windows_of(int64_t n_in, int64_t n_out, int64_t first, int64_t count, int64_t *place) {
    axis a = {count, place, place + count, n_in, 0, 0};
    bool even = true;
    int64_t whole = n_in / n_out, rest = n_in % n_out, origin = first * whole + first * rest / n_out;
    for (int64_t k = 0; k < count; k++) {
        int64_t i = first + k;
        a.starts[k] = i * whole + i * rest / n_out - origin;
        a.stops[k] = (i + 1) * whole + ((i + 1) * rest + n_out - 1) / n_out - origin;
        int64_t length = a.stops[k] - a.starts[k];
        if (length < a.shortest) a.shortest = length;
        if (length > a.longest) a.longest = length;
        even &= a.starts[k] == k * whole && a.stops[k] == (k + 1) * whole;
    }
    a.even = even ? whole : 0;
    return a;
}

/* Words that are handed out one after the other, or only counted where there are none yet. */
typedef struct {
    word *words;
    Py_ssize_t used;
} scratch;

/* The next `n` words, from a line of the cache on: that makes up to 1.5 times of difference. */
static void *take(scratch *s, Py_ssize_t n) {
    word *taken = s->words ? s->words + s->used : NULL;
    s->used += (n + PAD - 1) / PAD * PAD;
    return taken;
}

static desk desk_in(scratch *s, const job *j, Py_ssize_t group, Py_ssize_t strip, Py_ssize_t width) {
    const Py_ssize_t each = j->cols.count * j->inner;
    const enum way present = j->skips_nan ? ADD_VALID : ADD_PRESENT;
    desk d = {.group = group, .strip = strip, .width = width};
    d.way = j->reduction >= MAX ? GREATEST : j->has_missing ? present : ADD;
    d.bands.sum = take(s, group * width), d.bands.low = take(s, group * width), d.bands.count = take(s, group * width);
    d.totals.sum = take(s, group * each), d.totals.low = take(s, group * each), d.totals.count = take(s, group * each);
    d.cells = take(s, group * each), d.widths = take(s, each), d.runs = take(s, 2 * group), d.results = take(s, group * each);
    return d;
}

PyDoc_STRVAR(pool_doc, "pool(source, out, rows, cols, type, result, reduction, skip_nan, has_missing, missing, missing_integer, min_valid, fill, threads)\n\n"
             "Reduce the windows `rows` x `cols`, each (n_in, n_out, first, count), of `source` (planes, height, width, inner)\n"
             "into `out`, any strides; see lucid.pooling.means. Returns how many finite results became infinite, or -1 where\n"
             "the rows of `source` are not runs of its elements.");

static PyObject *py_pool(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer in = {0}, out = {0};
    PyObject *source, *target, *answer = NULL;
    job j = {0};
    void *memory = NULL;
    worker *workers = NULL;
    int type, result, reduction, skips_nan, has_missing;
    long long r[4], c[4], missing_integer, fill, threads;
    double missing;
    if (!PyArg_ParseTuple(args, "OO(LLLL)(LLLL)iiippdLdLL", &source, &target, &r[0], &r[1], &r[2], &r[3], &c[0], &c[1], &c[2], &c[3],
                          &type, &result, &reduction, &skips_nan, &has_missing, &missing, &missing_integer, &j.min_valid, &fill, &threads) ||
        PyObject_GetBuffer(source, &in, PyBUF_STRIDES) || PyObject_GetBuffer(target, &out, PyBUF_STRIDES | PyBUF_WRITABLE))
        goto done;
    /* What the Python above has checked; a mistake there must not read or write beyond the arrays. */
    if (in.ndim != 4 || out.ndim != 4 || out.len == 0 || in.shape[0] != out.shape[0] || in.shape[3] != out.shape[3] ||
        type < 0 || type >= TYPES || result < 0 || result >= TYPES || reduction < MEAN || reduction > MIN || threads < 1 ||
        TABLE[type].size != in.itemsize || TABLE[result].size != out.itemsize ||
        r[1] < 1 || r[2] < 0 || r[3] != out.shape[1] || c[1] < 1 || c[2] < 0 || c[3] != out.shape[2]) {
        PyErr_SetString(PyExc_ValueError, "the arrays are not of the types and shapes that are said");
        goto done;
    }
    j.planes = in.shape[0], j.inner = in.shape[3], j.size = in.itemsize;
    j.plane_stride = in.strides[0], j.row_stride = in.strides[1];
    if ((in.strides[3] != in.itemsize && j.inner > 1) || (in.strides[2] != j.inner * in.itemsize && in.shape[2] > 1)) {
        answer = PyLong_FromLong(-1);
        goto done;
    }
    j.source = in.buf, j.end = j.source + in.itemsize, j.out = out.buf;
    j.scatters = (uintptr_t)out.buf % out.itemsize != 0;
    Py_ssize_t behind = out.itemsize;
    for (int i = 3; i >= 0; i--) {
        if (in.strides[i] > 0) j.end += (in.shape[i] - 1) * in.strides[i];
        j.out_strides[i] = out.strides[i];
        j.scatters |= out.strides[i] != behind && out.shape[i] > 1;
        behind *= out.shape[i];
    }
    j.type = type, j.result = result, j.reduction = reduction;
    /* A number that integers of 8 and 16 bits cannot be is found nowhere. */
    char kept[sizeof(int64_t)];
    if (type < F2 && (!(fabs(missing) < 65536) || missing != rint(missing) || store_integer(type, kept, (int32_t)missing))) has_missing = false;
    j.skips_nan = skips_nan && type >= F2 && type <= F8, j.has_missing = has_missing, j.skips = j.skips_nan || has_missing;
    if (TABLE[type].kind == INTEGER) j.missing.i = missing_integer;
    else if (type < F2) j.missing.i = has_missing ? (int64_t)missing : INT32_MIN;
    else j.missing.f = has_missing ? missing : NAN;
    j.fill.i = fill;
    j.rows.count = r[3], j.cols.count = c[3];
    const Py_ssize_t each = c[3] * j.inner, strip = STRIP / j.inner > 1 ? STRIP / j.inner : 1;
    const Py_ssize_t across = in.shape[2] < strip ? in.shape[2] : strip, width = (across * j.inner + PAD - 1) / PAD * PAD;
    const Py_ssize_t widest = width > each ? width : each, together = GROUP / widest / LANES * LANES;
    const Py_ssize_t group = across < in.shape[2] || widest > STRIP ? 1 : together > LANES ? together : LANES;
    /* Shares are whole groups, and several for each thread, so that a slow one does not keep the others waiting. */
    const Py_ssize_t groups = (j.planes * r[3] + group - 1) / group, count = threads < groups ? threads : groups;
    const Py_ssize_t share = (groups - 1 + count * SHARES) / (count * SHARES) * group;
    scratch s = {NULL, 0};
    desk_in(&s, &j, group, strip, width);
    workers = PyMem_Calloc(count, sizeof *workers);
    memory = PyMem_Malloc((count * s.used + 2 * (r[3] + c[3]) + 3 * PAD) * sizeof(word));
    if (workers == NULL || memory == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    s = (scratch){(word *)memory + (64 - (uintptr_t)memory % 64) / sizeof(word), 0};
    int64_t overflows = 0, *rows = take(&s, 2 * r[3]), *cols = take(&s, 2 * c[3]);
    Py_ssize_t next = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        workers[i] = (worker){.j = &j, .d = desk_in(&s, &j, group, strip, width), .next = &next, .share = share};
    bool fits;
    Py_BEGIN_ALLOW_THREADS
    j.rows = windows_of(r[0], r[1], r[2], r[3], rows);
    j.cols = windows_of(c[0], c[1], c[2], c[3], cols);
    fits = j.rows.stops[r[3] - 1] <= in.shape[1] && j.cols.stops[c[3] - 1] <= in.shape[2];
    if (fits) overflows = work_together(workers, count);
    Py_END_ALLOW_THREADS
    if (fits) answer = PyLong_FromLongLong(overflows);
    else PyErr_SetString(PyExc_ValueError, "the windows reach beyond the cells");
done:
    PyMem_Free(workers);
    PyMem_Free(memory);
    if (in.obj) PyBuffer_Release(&in);
    if (out.obj) PyBuffer_Release(&out);
    return answer;
}

static PyMethodDef METHODS[] = {{"pool", py_pool, METH_VARARGS, pool_doc}, {NULL, NULL, 0, NULL}};
static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernel", "Compiled pooling; see sums.py.", 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&MODULE); }
