/* The compiled twin of sums.py: the same windows, the same order of addition, the same bits.
 *
 *     cells   ──columns──▶  columns  one sum for each column of a window's rows, added top to bottom
 *     columns ──fold─────▶  totals   the columns of each window, left to right
 *     totals  ──finish───▶  results  divided and rounded once
 *
 * The source is (planes, H, W, inner): `inner` is 1 for NCHW and C for NHWC, where a column is a run of C
 * elements. The rows of a window are a run of W * inner elements each, so both layouts are the same loops.
 *
 * Every function that is marked ALWAYS takes constants for element type and way, so the compiler makes a loop
 * of its own for each: this is C's template. A new element type is a name in `type`, a row of ELEMENTS and a case
 * each of `element` and `store`.
 *
 * Sums are float64, which is exact for integers in windows as small as means.py gives; those of float64 carry the
 * rounding errors along (Knuth's two-sum). Compile without -ffast-math and without contraction of multiplications
 * and additions: both change bits.
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
    COLUMNS = 2048, /* Elements of columns that are added at once: with the cells that are read, it stays in the level-1 cache. */
    GROUP = 128,    /* Elements of columns that are folded at once, so that their latencies overlap, */
    LANES = 4,      /* and of how many rows of windows at least. */
    SEGMENT = 64,   /* Elements of a long row between two words to the memory about what comes next, */
    AHEAD = 4096,   /* and how many bytes ahead that is. */
    SHARES = 4,     /* Shares of the work for each thread. */
    PAD = 16,       /* Columns are whole multiples of so many elements, so that no loop over short rows has a rest; */
};
#define PAD_OF(type) ((type) <= I1 ? PAD : PAD / 2)     /* these are filled up to so many. */

/* Name and C type of an element, in the order of the codes of dtypes.py: small integers, small floats, the others. */
#define ELEMENTS(ROW) \
    ROW(BOOL, uint8_t) ROW(U1, uint8_t) ROW(I1, int8_t) ROW(U2, uint16_t) ROW(I2, int16_t) \
    ROW(F2, uint16_t) ROW(B2, uint16_t) ROW(F4, float) ROW(F8, double) ROW(U4, uint32_t) ROW(I4, int32_t) ROW(SCALED, double)
/* U8 and I8 are those of sums alone; SCALED is float64 times 2**-64, for sums that overflow. */
enum type { BOOL, U1, I1, U2, I2, F2, B2, F4, F8, U4, I4, U8, I8, SCALED, TYPES };
#define IS_FLOAT(type) (((type) >= F2 && (type) <= F8) || (type) == SCALED)
/* What is done with the cells of a window: added, all or but for NaN, for a missing value, for both; or compared. The least
 * is the greatest of the negated. */
enum way { ADD, ADD_NUMBERS, ADD_PRESENT, ADD_VALID, GREATEST };
enum reduction { MEAN, SUM, MAX, MIN };

/* Sums side by side, their errors, and numbers of valid cells. */
typedef struct {
    double *sum, *low;
    int32_t *count;
} sums;

ALWAYS sums moved(sums b, Py_ssize_t by) { return (sums){b.sum + by, b.low + by, b.count + by}; }

/* The windows of an axis that are wanted: [starts[i], stops[i]). */
typedef struct {
    Py_ssize_t count;
    int64_t *starts, *stops;
    int64_t length;         /* of all of them, or 0 where they differ */
} axis;

/* Cells that count as nothing, as they are compared, and whether NaN is among them. */
typedef struct {
    double value;
    float single;
    int32_t small;
    bool is_nan;
} nothing;

typedef struct {
    const char *source, *end;
    char *out;
    Py_ssize_t planes, plane_stride, row_stride, inner, size;
    const Py_ssize_t *out_strides;          /* of planes, rows, columns, inner */
    bool scatters;                          /* whether results do not lie one after the other */
    axis rows, cols;
    double *widths;                         /* the columns of each window, for each of `inner` */
    enum type type, result;
    enum reduction reduction;
    enum way way;
    bool skips;                             /* whether any cell can count as nothing */
    nothing no;
    double sign;                            /* of cells that are compared */
    int64_t fill;                           /* the result of a window without valid cells, where it is an integer */
    double min_valid;
    Py_ssize_t group, across, width;        /* rows of windows at once; columns at once; elements of these */
    Py_ssize_t share, *next;                /* rows of windows that a thread takes, and the first that none has taken */
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
    case F8: case SCALED: return ((const double *)run)[i];
    case U4: return ((const uint32_t *)run)[i];
    case I4: return ((const int32_t *)run)[i];
    default: return small(type, run, i);
    }
}

/* The same, 0 where it does not count, and whether it does. Compared in its own type, with one comparison where one is enough;
 * floats are masked as bits, since compilers would convert them first, and registers hold half as many float64. */
ALWAYS double valid_element(const nothing no, const enum type type, const enum way way, const char *run, Py_ssize_t i,
                            int32_t *valid) {
#define COUNTS(x, missing) \
    (way == ADD_NUMBERS ? x == x : way == ADD_PRESENT ? x != missing : ((x == x) | !no.is_nan) & (x != missing))
    if (type > F4) {
        double x = element(type, run, i);
        *valid = COUNTS(x, no.value);
        return *valid ? x : 0;
    }
    float x = (float)element(type, run, i);
    uint32_t bits, mask = -(uint32_t)COUNTS(x, no.single);
    memcpy(&bits, &x, 4);
    *valid = -(int32_t)mask;
    return from_bits(bits & mask);
#undef COUNTS
}

/* Written out, since compilers make vectors of no loop within a loop. */
#define EIGHT(CELL) CELL(0) CELL(1) CELL(2) CELL(3) CELL(4) CELL(5) CELL(6) CELL(7)

/* Up to eight cells of a column of 8 or 16 bits, and how many count. Missing ones are added, too, and then taken away:
 * twice the bits of a cell hold eight of them and a quarter the number, so registers hold most of both. */
ALWAYS int32_t add_small(const nothing no, const enum type type, const enum way way, const char *cells, Py_ssize_t pitch,
                         const int h, Py_ssize_t i, int32_t *total) {
    int32_t sum = 0;
    uint8_t few = 0;
    uint16_t missing = 0;
#define CELL(r) \
    if (h > r) { \
        const int32_t x = small(type, cells + (r) * pitch, i); \
        sum += x; \
        if (type <= I1) few += way != ADD && (uint8_t)x == (uint8_t)no.small; \
        else missing += way != ADD && (uint16_t)x == (uint16_t)no.small; \
    }
    EIGHT(CELL)
#undef CELL
    *total = type <= I1 && way != ADD ? (int16_t)((int16_t)sum - (int16_t)few * (int16_t)no.small) : sum - missing * no.small;
    return h - (type <= I1 ? few : missing);
}

/* ---------------------------------------------------------------- columns */

/* Puts a cell, or a column with its error, behind those that a sum has; `first` says that it has none. */
ALWAYS void join(const bool pairs, const enum way way, const bool first, double x, double error, int32_t valid, double *sum,
                 double *low, int32_t *count) {
    double before = *sum, after = before + x, added = after - before;
    if (way != ADD) *count = first ? valid : *count + valid;
    if (way == GREATEST) *sum = (first | (x > before) | (x != x)) ? x : before;   /* NaN is greater than all */
    else *sum = first ? x : after;
    if (pairs) *low = first ? error : *low + (((before - (after - added)) + (x - added)) + error);
}

/* Adds `h` rows to columns, all at once: each sum is read and written once. */
ALWAYS void add_rows(const job *j, const enum type type, const enum way way, sums b, const char *rows, Py_ssize_t pitch,
                     const int h, const bool first, Py_ssize_t n) {
    const bool pairs = (type == F8 || type == SCALED) && way != GREATEST;
    double *restrict column_sums = b.sum, *restrict lows = b.low;
    int32_t *restrict counts = b.count;
    const char *restrict cells = rows;
    const nothing no = j->no;
    const double sign = way == GREATEST ? j->sign : type == SCALED ? 0x1p-64 : 1;
    _Pragma("omp simd")
    for (Py_ssize_t v = 0; v < n; v++) {
        double sum = first ? 0 : column_sums[v], low = first || !pairs ? 0 : lows[v];
        int32_t count = first || way == ADD ? 0 : counts[v], valid = 1;
        if (type <= I2 && way != GREATEST) {
            int32_t total;
            count += add_small(no, type, way, cells, pitch, h, v, &total);
            sum = first ? total : sum + total;
        } else {
#define CELL(r) \
            if (h > r) { \
                const char *row = cells + r * pitch; \
                double x = way == ADD ? element(type, row, v) : valid_element(no, type, way, row, v, &valid); \
                x = way == GREATEST && !valid ? -INFINITY : x * sign; \
                join(pairs, way, first && r == 0, x, first && r == 0 ? 0.0 : -0.0, valid, &sum, &low, &count); \
            }
            EIGHT(CELL)
#undef CELL
        }
        column_sums[v] = sum;
        if (pairs) lows[v] = low;
        if (way != ADD) counts[v] = count;
    }
}

/* Rows eight at once where they are the first (four where it takes more to tell cells of 16 bits), else four or one. */
ALWAYS void short_rows(const job *j, const enum type type, const enum way way, sums b, const char *rows, Py_ssize_t pitch,
                       int64_t h, Py_ssize_t n) {
    const int most = (type == F2 || type == B2) && way != ADD ? 4 : 8;
    n &= -PAD_OF(type);     /* The compiler sees that no loop has a rest. */
    switch (h < most ? h : 8) {
#define CASE(h) case h: if (h < most) add_rows(j, type, way, b, rows, pitch, h, true, n); return;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
#undef CASE
    default: add_rows(j, type, way, b, rows, pitch, most, true, n);
    }
    for (h -= most, rows += most * pitch; h >= 4; h -= 4, rows += 4 * pitch) add_rows(j, type, way, b, rows, pitch, 4, false, n);
    for (; h > 0; h--, rows += pitch) add_rows(j, type, way, b, rows, pitch, 1, false, n);
}

/* Elements [from, from + n) of the rows of `count` windows to as many rows of columns, `width` apart. */
ALWAYS void columns(const job *j, const enum type type, const enum way way, const run *runs, Py_ssize_t count, sums b,
                    Py_ssize_t from, Py_ssize_t n) {
    const Py_ssize_t size = j->size, pitch = j->row_stride;
    for (Py_ssize_t k = 0; k < count; k++, b = moved(b, j->width)) {
        const char *rows = runs[k].rows + from * size;
        const int64_t h = runs[k].height;
        /* What is read behind a row is within the array, and what becomes of it is not looked at. */
        const Py_ssize_t padded = (n + PAD_OF(type) - 1) / PAD_OF(type) * PAD_OF(type);
        if (type != SCALED && way != GREATEST && rows + (pitch > 0 ? (h - 1) * pitch : 0) + padded * size <= j->end &&
            (n <= SHORT || j->inner > 1 || (type <= I2 && (size == 1 || n <= 4 * SHORT)))) {
            short_rows(j, type, way, b, rows, pitch, h, padded);
            continue;
        }
        for (int64_t r = 0; r < h; r++, rows += pitch) {
            for (Py_ssize_t v = 0; v < n; v += SEGMENT) {
                const char *cells = rows + v * size;
                const Py_ssize_t m = n - v < SEGMENT ? n - v : SEGMENT;
                /* The memory is read in order, but the processor does not see it through the columns. */
                for (Py_ssize_t c = 0; c < m * size; c += 64) __builtin_prefetch(cells + AHEAD + c);
                if (r == 0) add_rows(j, type, way, moved(b, v), cells, 0, 1, true, m);
                else add_rows(j, type, way, moved(b, v), cells, 0, 1, false, m);
            }
        }
    }
}

/* A loop for each element type and way, but for those that ask integers for NaN. */
#define DEFINE(type, way) \
    VERSIONS static void type##_##way(const job *j, const run *r, Py_ssize_t k, sums b, Py_ssize_t from, Py_ssize_t n) { \
        if (IS_FLOAT(type) || (way != ADD_NUMBERS && way != ADD_VALID)) columns(j, type, way, r, k, b, from, n); \
    }
#define ROW(type, ctype) \
    DEFINE(type, ADD) DEFINE(type, ADD_NUMBERS) DEFINE(type, ADD_PRESENT) DEFINE(type, ADD_VALID) DEFINE(type, GREATEST)
ELEMENTS(ROW)
#undef ROW
static const struct {
    void (*columns[5])(const job *, const run *, Py_ssize_t, sums, Py_ssize_t, Py_ssize_t);
    Py_ssize_t size;
} TABLE[TYPES] = {
#define ROW(type, ctype) [type] = {{type##_ADD, type##_ADD_NUMBERS, type##_ADD_PRESENT, type##_ADD_VALID, type##_GREATEST}, sizeof(ctype)},
    ELEMENTS(ROW) [U8] = {{NULL}, 8}, [I8] = {{NULL}, 8},
#undef ROW
};

/* ---------------------------------------------------------------- fold */

/* Puts columns [from, to), `apart`, behind those that the totals of `lanes` windows have. Each addition waits for the one
 * before, so windows are folded side by side: their columns lie `next` to each other, their totals `next_total`. */
ALWAYS void fold_lanes(const bool pairs, const enum way way, const int lanes, const bool first, sums b, Py_ssize_t next,
                       Py_ssize_t apart, int64_t from, int64_t to, sums t, Py_ssize_t next_total) {
    double sum[LANES], low[LANES] = {0};
    int32_t count[LANES] = {0};
    for (int l = 0; l < lanes; l++) {
        sum[l] = first ? b.sum[l * next + from * apart] : t.sum[l * next_total];
        if (pairs) low[l] = first ? b.low[l * next + from * apart] : t.low[l * next_total];
        if (way != ADD) count[l] = first ? b.count[l * next + from * apart] : t.count[l * next_total];
    }
    for (int64_t c = from + first; c < to; c++) {
#define JOIN(l, at) \
    join(pairs, way, false, b.sum[at], pairs ? b.low[at] : 0, way == ADD ? 0 : b.count[at], &sum[l], &low[l], &count[l])
        /* The compiler takes one lane after the other, which the processor overlaps; not so the many steps of two-sum. */
        if (pairs && way == ADD) {
            _Pragma("omp simd")
            for (int l = 0; l < lanes; l++) JOIN(l, l * next + c * apart);
        } else for (int l = 0; l < lanes; l++) JOIN(l, l * next + c * apart);
#undef JOIN
    }
    for (int l = 0; l < lanes; l++) {
        t.sum[l * next_total] = sum[l];
        if (pairs) t.low[l * next_total] = low[l];
        if (way != ADD) t.count[l * next_total] = count[l];
    }
}

/* Columns [left, right) of `count` rows to the totals of the windows that have some of them, from window `i` on. There
 * are several rows only where they are whole. */
ALWAYS void fold_windows(const job *j, const bool pairs, const enum way way, Py_ssize_t i, sums b, Py_ssize_t count,
                         int64_t left, int64_t right, sums t) {
    const Py_ssize_t cols = j->cols.count, inner = j->inner, width = j->width;
    const int64_t *starts = j->cols.starts, *stops = j->cols.stops;
    for (Py_ssize_t k = 0, rows; k < count; k += rows, b = moved(b, rows * width), t = moved(t, rows * cols * inner)) {
        rows = inner == 1 && count - k >= LANES ? LANES : 1;
        for (Py_ssize_t w = 0; rows == LANES && w < cols; w++)
            fold_lanes(pairs, way, LANES, true, b, width, 1, starts[w], stops[w], moved(t, w), cols);
        for (Py_ssize_t w = i; rows == 1 && w < cols && starts[w] < right; w++) {
            const int64_t from = (starts[w] > left ? starts[w] : left) - left, to = (stops[w] < right ? stops[w] : right) - left;
            const bool first = starts[w] >= left;
            for (Py_ssize_t q = 0, lanes; q < inner; q += lanes) {
                const sums more = moved(b, q), total = moved(t, w * inner + q);
                lanes = inner - q >= LANES && first ? LANES : 1;
                if (lanes == LANES) fold_lanes(pairs, way, LANES, true, more, 1, inner, from, to, total, 1);
                else fold_lanes(pairs, way, 1, first, more, 1, inner, from, to, total, 1);
            }
        }
    }
}

VERSIONS static void fold(const job *j, bool pairs, Py_ssize_t i, sums b, Py_ssize_t count, int64_t left, int64_t right, sums t) {
    if (j->way == GREATEST) fold_windows(j, false, GREATEST, i, b, count, left, right, t);
    else if (j->way == ADD && pairs) fold_windows(j, true, ADD, i, b, count, left, right, t);
    else if (j->way == ADD) fold_windows(j, false, ADD, i, b, count, left, right, t);
    else if (pairs) fold_windows(j, true, ADD_VALID, i, b, count, left, right, t);
    else fold_windows(j, false, ADD_VALID, i, b, count, left, right, t);
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

/* Stores a result as element i; whether it was finite and the type has only an infinity or a limit for it. Where too few
 * cells count, it is NaN or `fill`. */
ALWAYS bool store(const enum type type, char *out, Py_ssize_t i, double value, bool is_there, int64_t fill) {
    if (!is_there || value != value) value = NAN;
    switch (type) {
    case F8: ((double *)out)[i] = value; return false;
    case F4: ((float *)out)[i] = (float)value; return isinf((float)value) & !isinf(value);
#define CASE(type, fraction, bias, infinity) \
    case type: { \
        uint16_t bits = narrowed(value, fraction, bias); \
        ((uint16_t *)out)[i] = bits; \
        return (bits & 0x7fff) == infinity && !isinf(value); \
    }
    CASE(F2, 10, 15, 0x7c00) CASE(B2, 7, 127, 0x7f80)
#undef CASE
#define CASE(type, ctype, least, most) \
    case type: { \
        double whole = rint(value), kept = whole < (double)least ? (double)least : whole > (double)most ? (double)most : whole; \
        ((ctype *)out)[i] = is_there ? (ctype)kept : (ctype)fill; \
        return is_there && kept != whole; \
    }
    CASE(BOOL, uint8_t, 0, 1) CASE(U1, uint8_t, 0, UINT8_MAX) CASE(I1, int8_t, INT8_MIN, INT8_MAX) CASE(U2, uint16_t, 0, UINT16_MAX)
    CASE(I2, int16_t, INT16_MIN, INT16_MAX) CASE(U4, uint32_t, 0, UINT32_MAX) CASE(I4, int32_t, INT32_MIN, INT32_MAX)
    CASE(U8, uint64_t, 0, UINT64_MAX) CASE(I8, int64_t, INT64_MIN, INT64_MAX)     /* sums, far from these limits */
#undef CASE
    default: return false;
    }
}

ALWAYS double value_of(const bool pairs, const enum reduction reduction, double sum, double low, double valid) {
    if (reduction == MEAN) return pairs ? divided(sum, low, valid) : sum / valid;
    return pairs ? sum + low : reduction == MIN ? -sum : sum;
}

/* Whether a sum and its error are finite. */
ALWAYS bool is_finite(sums t, Py_ssize_t i) { return t.sum[i] * 0 + t.low[i] * 0 == 0; }

/* `n` totals to results, one after the other; how many finite ones became infinite. What overflowed among sums of float64
 * is taken from those of the scaled cells, if there are any. */
ALWAYS int64_t finish_as(const job *j, const bool pairs, const enum type result, const enum reduction reduction, const bool skips,
                         sums t, sums scaled, const double *restrict cells, Py_ssize_t n, char *restrict out) {
    const double least = j->min_valid;
    const bool can_exceed = pairs || result != F4 || reduction != MEAN;     /* a float32 holds the means of what it holds */
    int64_t overflows = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        double valid = skips ? t.count[i] : cells[i];
        double needed = least * cells[i];
        bool is_there = !skips || valid >= (needed > 1 ? needed : 1);
        bool exceeds = store(result, out, i, value_of(pairs, reduction, t.sum[i], t.low[i], valid), is_there, j->fill);
        if (can_exceed) overflows += exceeds;
    }
    for (Py_ssize_t i = 0; pairs && scaled.sum != NULL && i < n; i++) {
        double valid = skips ? t.count[i] : cells[i];
        if (is_finite(t, i) || (skips && (valid == 0 || valid < least * cells[i]))) continue;
        double value = isfinite(scaled.sum[i]) ? value_of(pairs, reduction, scaled.sum[i], scaled.low[i], valid) : scaled.sum[i];
        overflows += store(result, out, i, value * 0x1p64, true, 0) || (isfinite(value) && isinf(value * 0x1p64));
    }
    return overflows;
}

VERSIONS static int64_t finish(const job *j, bool pairs, sums t, sums scaled, const double *cells, Py_ssize_t n, char *out) {
#define CASE(of, type) \
    if (pairs == of && j->result == type && j->reduction == MEAN) \
        return j->skips ? finish_as(j, of, type, MEAN, true, t, scaled, cells, n, out) \
                        : finish_as(j, of, type, MEAN, false, t, scaled, cells, n, out);
    CASE(false, F4) CASE(false, F2) CASE(false, B2) CASE(true, F8)      /* most of what is asked for */
#undef CASE
    return finish_as(j, pairs, j->result, j->reduction, j->skips, t, scaled, cells, n, out);
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

/* What a thread works with. */
typedef struct {
    const job *j;
    sums columns, totals, scaled;        /* those of `group` rows of windows */
    double *cells;                      /* the numbers of all cells of totals */
    run *runs;
    char *results;                      /* where they wait for `scatter` */
    int64_t overflows;
    pthread_t thread;
    bool is_begun, is_done;
} worker;

/* The totals of `count` rows of windows, as sums of one element type. */
static void total(const worker *w, enum type type, Py_ssize_t count, sums totals) {
    const job *j = w->j;
    const int64_t last = j->cols.stops[j->cols.count - 1];
    Py_ssize_t i = 0;
    for (int64_t left = 0; left < last; left += j->across) {
        int64_t right = left + j->across < last ? left + j->across : last;
        TABLE[type].columns[j->way](j, w->runs, count, w->columns, left * j->inner, (right - left) * j->inner);
        while (j->cols.stops[i] <= left) i++;
        fold(j, type == F8 || type == SCALED, i, w->columns, count, left, right, totals);
    }
}

/* Pools rows of windows [first, last), counted through all planes; how many finite results became infinite. */
static int64_t pool(const worker *w, Py_ssize_t first, Py_ssize_t last) {
    const job *j = w->j;
    const Py_ssize_t each = j->cols.count * j->inner;
    const bool pairs = j->type == F8 && j->way != GREATEST;
    int64_t overflows = 0;
    Py_ssize_t plane = first / j->rows.count, row = first % j->rows.count;
    for (Py_ssize_t done = first, count; done < last; done += count) {
        count = last - done < j->group ? last - done : j->group;
        for (Py_ssize_t k = 0; k < count; k++) {
            const int64_t start = j->rows.starts[row], height = j->rows.stops[row] - start;
            w->runs[k] = (run){j->source + plane * j->plane_stride + start * j->row_stride, height};
            if (done == first || j->rows.length == 0)
                for (Py_ssize_t i = 0; i < each; i++) w->cells[k * each + i] = (double)height * j->widths[i];
            if (++row == j->rows.count) row = 0, plane++;
        }
        total(w, j->type, count, w->totals);
        bool is_there = true;
        for (Py_ssize_t i = 0; pairs && i < count * each; i++) is_there &= is_finite(w->totals, i);
        if (!is_there) total(w, SCALED, count, w->scaled);
        char *const out = j->scatters ? w->results : j->out + done * each * TABLE[j->result].size;
        overflows += finish(j, pairs, w->totals, is_there ? (sums){NULL, NULL, NULL} : w->scaled, w->cells, count * each, out);
        if (j->scatters) scatter(j, out, done, count);
    }
    return overflows;
}

static void *work(void *of) {
    worker *w = of;
    const Py_ssize_t windows = w->j->planes * w->j->rows.count;
    Py_ssize_t first;
    while ((first = __atomic_fetch_add(w->j->next, w->j->share, __ATOMIC_RELAXED)) < windows)
        w->overflows += pool(w, first, windows - first < w->j->share ? windows : first + w->j->share);
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
static void set_windows(axis *a, const long long of[4], int64_t *starts) {
    const int64_t whole = of[0] / of[1], rest = of[0] % of[1], first = of[2], origin = first * whole + first * rest / of[1];
    *a = (axis){of[3], starts, starts + of[3], 0};
    for (int64_t k = 0; k < of[3]; k++) {
        a->starts[k] = (first + k) * whole + (first + k) * rest / of[1] - origin;
        a->stops[k] = (first + k + 1) * whole + ((first + k + 1) * rest + of[1] - 1) / of[1] - origin;
        const int64_t length = a->stops[k] - a->starts[k];
        a->length = k == 0 || length == a->length ? length : 0;
    }
}

/* Memory that is handed out from its beginning on, or only counted where there is none yet. */
typedef struct {
    char *memory;
    Py_ssize_t used;
} scratch;

/* Room for `n` of 8 bytes, from a line of the cache on: that makes up to 1.5 times of difference. */
static void *take(scratch *s, Py_ssize_t n) {
    char *taken = s->memory ? s->memory + s->used : NULL;
    s->used += (n * 8 + 63) / 64 * 64;
    return taken;
}

static sums take_sums(scratch *s, Py_ssize_t n) { return (sums){take(s, n), take(s, n), take(s, n)}; }

static worker worker_of(const job *j, scratch *s) {
    const Py_ssize_t totals = j->group * j->cols.count * j->inner;
    return (worker){.j = j, .columns = take_sums(s, j->group * j->width), .totals = take_sums(s, totals),
                    .scaled = take_sums(s, totals), .cells = take(s, totals), .runs = take(s, 2 * j->group),
                    .results = take(s, totals)};
}

PyDoc_STRVAR(pool_doc, "pool(source, out, rows, cols, type, result, reduction, skip_nan, has_missing, missing, min_valid, fill,\n"
             "threads)\n\n"
             "Reduce the windows `rows` x `cols`, each (n_in, n_out, first, count), of `source` (planes, height, width, inner)\n"
             "into `out`, any strides; see lucid.pooling.means. Returns how many finite results became infinite, or -1 where\n"
             "the rows of `source` are not runs of its elements.");

static PyObject *py_pool(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer in = {0}, out = {0};
    PyObject *source, *target, *answer = NULL;
    job j = {0};
    char *memory = NULL;
    worker *workers = NULL;
    int type, result, reduction, skips_nan, has_missing;
    long long r[4], c[4], threads;
    unsigned long long fill;
    double missing;
    if (!PyArg_ParseTuple(args, "OO(LLLL)(LLLL)iiippddKL", &source, &target, &r[0], &r[1], &r[2], &r[3], &c[0], &c[1], &c[2], &c[3],
                          &type, &result, &reduction, &skips_nan, &has_missing, &missing, &j.min_valid, &fill, &threads) ||
        PyObject_GetBuffer(source, &in, PyBUF_STRIDES) || PyObject_GetBuffer(target, &out, PyBUF_STRIDES | PyBUF_WRITABLE))
        goto done;
    /* What the Python above has checked; a mistake there must not read or write beyond the arrays. */
    if (in.ndim != 4 || out.ndim != 4 || out.len == 0 || in.shape[0] != out.shape[0] || in.shape[3] != out.shape[3] ||
        type < 0 || type >= U8 || result < 0 || result >= SCALED || reduction < MEAN || reduction > MIN || threads < 1 ||
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
    j.source = in.buf, j.end = j.source + in.itemsize, j.out = out.buf, j.out_strides = out.strides;
    j.scatters = (uintptr_t)out.buf % out.itemsize != 0 || !PyBuffer_IsContiguous(&out, 'C');
    for (int i = 0; i < 4; i++)
        if (in.strides[i] > 0) j.end += (in.shape[i] - 1) * in.strides[i];
    j.type = type, j.result = result, j.reduction = reduction, j.fill = (int64_t)fill;
    /* A number that the type does not have is found nowhere. */
    double cell;
    store(type, (char *)&cell, 0, missing, true, 0);
    has_missing &= element(type, (char *)&cell, 0) == missing;
    skips_nan &= IS_FLOAT(type);
    j.skips = skips_nan || has_missing;
    j.sign = reduction == MIN ? -1 : 1;
    j.no = (nothing){has_missing ? missing : NAN, has_missing ? (float)missing : NAN,
                     has_missing && type <= I2 ? (int32_t)missing : 0, skips_nan};
    j.way = reduction >= MAX ? GREATEST : skips_nan ? has_missing ? ADD_VALID : ADD_NUMBERS : has_missing ? ADD_PRESENT : ADD;
    const Py_ssize_t each = c[3] * j.inner, across = in.shape[2] < COLUMNS / j.inner ? in.shape[2] : COLUMNS / j.inner;
    j.across = across > 1 ? across : 1, j.width = (j.across * j.inner + PAD - 1) / PAD * PAD;
    const Py_ssize_t widest = j.width > each ? j.width : each, together = GROUP / widest / LANES * LANES;
    j.group = j.across < in.shape[2] || widest > COLUMNS ? 1 : together > LANES ? together : LANES;
    /* Shares are whole groups, and several for each thread, so that a slow one does not keep the others waiting. */
    const Py_ssize_t groups = (j.planes * r[3] + j.group - 1) / j.group, count = threads < groups ? threads : groups;
    Py_ssize_t next = 0;
    j.next = &next, j.share = (groups - 1 + count * SHARES) / (count * SHARES) * j.group;
    j.rows.count = r[3], j.cols.count = c[3];
    scratch s = {NULL, 0};
    worker_of(&j, &s);
    workers = PyMem_Calloc(count, sizeof *workers);
    memory = PyMem_Malloc(count * s.used + (2 * (r[3] + c[3]) + each) * 8 + 4 * 64);
    if (workers == NULL || memory == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    s = (scratch){memory + (64 - (uintptr_t)memory % 64), 0};
    int64_t overflows = 0, *rows = take(&s, 2 * r[3]), *cols = take(&s, 2 * c[3]);
    j.widths = take(&s, each);
    for (Py_ssize_t i = 0; i < count; i++) workers[i] = worker_of(&j, &s);
    bool fits;
    Py_BEGIN_ALLOW_THREADS
    set_windows(&j.rows, r, rows);
    set_windows(&j.cols, c, cols);
    for (Py_ssize_t i = 0; i < each; i++) j.widths[i] = (double)(j.cols.stops[i / j.inner] - j.cols.starts[i / j.inner]);
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
static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "_kernel", .m_doc = "Compiled pooling; see sums.py.", .m_methods = METHODS, .m_slots = SLOTS};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&MODULE); }
