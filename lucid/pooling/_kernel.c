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
 * of its own for each: this is C's template. A new element type is a name in `type`, a row of LOOPS and of TABLE, and a case
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
    SHORT = 32,     /* Rows up to so many elements are added several at a time, in registers. */
    COLUMNS = 2048, /* Elements of columns that are added at once: with the cells that are read, it stays in the level-1 cache. */
    GROUP = 128,    /* Elements of columns that are added before they are folded. */
    LANES = 4,      /* Windows that are folded side by side, so that their latencies overlap. */
    SEGMENT = 64,   /* Elements of a long row between two words to the memory about what comes next, */
    AHEAD = 4096,   /* and how many bytes ahead that is. */
    SHARES = 4,     /* Shares of the work for each thread. */
    PAD = 16,       /* Rows are filled up to whole multiples of so many elements, so that no loop over them has a rest. */
};
#define PAD_OF(type) ((type) <= I1 ? PAD : PAD / 2)     /* Half as many where elements have several bytes. */

/* In the order of the codes of dtypes.py; U8 and I8 are results alone. */
enum type { BOOL, U1, I1, U2, I2, F2, B2, F4, F8, U4, I4, U8, I8, TYPES };
/* Signed integers go through the loops of the unsigned, U4 through that of I4: see `element`. */
#define LOOPS(ROW) ROW(BOOL) ROW(U1) ROW(U2) ROW(F2) ROW(B2) ROW(F4) ROW(F8) ROW(I4)
#define IS_FLOAT(type) ((type) >= F2 && (type) <= F8)
#define IS_SMALL(type) ((type) <= I2)
/* Name, C type, loops, and limits of integers. */
#define INTEGERS(ROW) \
    ROW(BOOL, uint8_t, BOOL, 0, 1) ROW(U1, uint8_t, U1, 0, UINT8_MAX) ROW(I1, int8_t, U1, INT8_MIN, INT8_MAX) \
    ROW(U2, uint16_t, U2, 0, UINT16_MAX) ROW(I2, int16_t, U2, INT16_MIN, INT16_MAX) ROW(U4, uint32_t, I4, 0, UINT32_MAX) \
    ROW(I4, int32_t, I4, INT32_MIN, INT32_MAX) ROW(U8, uint64_t, U8, 0, UINT64_MAX) ROW(I8, int64_t, I8, INT64_MIN, INT64_MAX)
static const struct {
    Py_ssize_t size;
    enum type loops;
    int64_t least;
    uint64_t most;
} TABLE[TYPES] = {
    [F2] = {2, F2, 0, 0}, [B2] = {2, B2, 0, 0}, [F4] = {4, F4, 0, 0}, [F8] = {8, F8, 0, 0},
#define ROW(type, ctype, loops, least, most) [type] = {sizeof(ctype), loops, least, most},
    INTEGERS(ROW)
#undef ROW
};
/* What is done with the cells of a window: added, all or but for NaN, for a missing value, for both; or compared. The least
 * is the greatest of the negated. */
enum way { ADD, ADD_NUMBERS, ADD_PRESENT, ADD_VALID, GREATEST, WAYS };
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

/* What bits of integers are changed and what is added for their value; cells that count as nothing, as they are compared,
 * and whether NaN is among them; the sign of cells that are compared. */
typedef struct {
    uint32_t flip;
    double offset, missing, sign;
    float single;
    int32_t small;
    bool is_nan;
} reading;

typedef struct worker worker;
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
    reading of;
    bool pairs, skips;                      /* whether sums have errors, and whether any cell can count as nothing */
    int64_t fill;                           /* the result of a window without valid cells, where it is an integer */
    double min_valid;
    Py_ssize_t group, across, width;        /* rows of windows at once; columns at once; elements of these */
    void (*columns)(const worker *, Py_ssize_t, Py_ssize_t, Py_ssize_t);
    Py_ssize_t share, *next;                /* rows of windows that a thread takes, and the first that none has taken */
} job;

/* The rows of a window: where they begin, and how many they are. */
typedef struct {
    const char *rows;
    int64_t height;
} run;

/* What a thread works with. */
struct worker {
    const job *j;
    sums columns, totals;               /* those of `group` rows of windows */
    double *cells, *values;             /* the numbers of all cells of totals, and what these come to */
    run *runs;
    char *edge;                         /* a copy of a row behind which the array ends */
    int64_t overflows;
    pthread_t thread;
    bool is_begun, is_done;
};

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

/* Element i of a run of integers of 8 and 16 bits, but for `offset`: the least one is 0. */
ALWAYS int32_t small(const reading of, const enum type type, const char *run, Py_ssize_t i) {
    if (type == U2) return (uint16_t)(((const uint16_t *)run)[i] ^ of.flip);
    if (type == BOOL) return ((const uint8_t *)run)[i] != 0;
    return (uint8_t)(((const uint8_t *)run)[i] ^ of.flip);
}

/* Element i of a run, as float64. Vectors of integers of 32 bits are converted as signed ones. */
ALWAYS double element(const reading of, const enum type type, const char *run, Py_ssize_t i) {
    switch (type) {
    case F2: return half(((const uint16_t *)run)[i]);
    case B2: return from_bits((uint32_t)((const uint16_t *)run)[i] << 16);
    case F4: return ((const float *)run)[i];
    case F8: return ((const double *)run)[i];
    case I4: return (int32_t)(((const uint32_t *)run)[i] ^ of.flip) + of.offset;
    default: return small(of, type, run, i) + of.offset;
    }
}

/* The same, 0 where it does not count, and whether it does. Compared in its own type, with one comparison where one is enough;
 * floats are masked as bits, since compilers would convert them first, and registers hold half as many float64. */
ALWAYS double valid_element(const reading of, const enum type type, const enum way way, const char *run, Py_ssize_t i,
                            int32_t *valid) {
#define COUNTS(x, missing) \
    (way == ADD_NUMBERS ? x == x : way == ADD_PRESENT ? x != missing : ((x == x) | !of.is_nan) & (x != missing))
    if (type > F4) {
        double x = element(of, type, run, i);
        *valid = COUNTS(x, of.missing);
        return *valid ? x : 0;
    }
    float x = (float)element(of, type, run, i);
    uint32_t bits, mask = -(uint32_t)COUNTS(x, of.single);
    memcpy(&bits, &x, 4);
    *valid = -(int32_t)mask;
    return from_bits(bits & mask);
#undef COUNTS
}

/* Written out, since compilers make vectors of no loop within a loop. */
#define EIGHT(CELL) CELL(0) CELL(1) CELL(2) CELL(3) CELL(4) CELL(5) CELL(6) CELL(7)

/* Up to eight cells of a column of 8 or 16 bits, and how many count. Missing ones are added, too, and then taken away:
 * twice the bits of a cell hold eight of them and a quarter the number, so registers hold most of both. */
ALWAYS int32_t add_small(const reading of, const enum type type, const enum way way, const char *cells, Py_ssize_t pitch,
                         const int h, Py_ssize_t i, int32_t *total) {
    const int32_t offset = (int32_t)of.offset, found = of.small - offset;
    int32_t sum = 0;
    uint8_t few = 0;
    uint16_t missing = 0;
#define CELL(r) \
    if (h > r) { \
        const int32_t x = small(of, type, cells + (r) * pitch, i); \
        sum += x; \
        if (type <= I1) few += way != ADD && (uint8_t)x == (uint8_t)found; \
        else missing += way != ADD && (uint16_t)x == (uint16_t)found; \
    }
    EIGHT(CELL)
#undef CELL
    if (type <= I1 && way != ADD) *total = (int16_t)((int16_t)sum + (int16_t)(h * offset) - (int16_t)few * (int16_t)of.small);
    else *total = sum + h * offset - missing * of.small;
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
ALWAYS void add_rows(const job *j, const enum type type, const enum way way, const int h, const bool first, const sums b,
                     const char *restrict cells, Py_ssize_t n) {
    const bool pairs = type == F8 && way != GREATEST;
    const reading of = j->of;
    const Py_ssize_t pitch = j->row_stride;
    n &= -PAD_OF(type);     /* The compiler sees that the loop has no rest. */
    _Pragma("omp simd")
    for (Py_ssize_t v = 0; v < n; v++) {
        double sum = first ? 0 : b.sum[v], low = first || !pairs ? 0 : b.low[v];
        int32_t count = first || way == ADD ? 0 : b.count[v], valid = 1;
        if (IS_SMALL(type) && way != GREATEST) {
            int32_t total;
            count += add_small(of, type, way, cells, pitch, h, v, &total);
            sum = first ? total : sum + total;
        } else {
#define CELL(r) \
            if (h > r) { \
                const char *row = cells + r * pitch; \
                double x = way == ADD ? element(of, type, row, v) : valid_element(of, type, way, row, v, &valid); \
                if (way == GREATEST) x = valid ? x * of.sign : -INFINITY; \
                join(pairs, way, first && r == 0, x, first && r == 0 ? 0.0 : -0.0, valid, &sum, &low, &count); \
            }
            EIGHT(CELL)
#undef CELL
        }
        b.sum[v] = sum;
        if (pairs) b.low[v] = low;
        if (way != ADD) b.count[v] = count;
    }
}

/* Elements [from, from + n) of the rows of `count` windows to as many rows of columns, `width` apart. Short rows are added
 * up to eight at once, long ones one by one. */
ALWAYS void columns(const worker *w, const enum type type, const enum way way, Py_ssize_t count, Py_ssize_t from, Py_ssize_t n) {
    const job *j = w->j;
    const Py_ssize_t size = j->size, pitch = j->row_stride, padded = (n + PAD_OF(type) - 1) & -PAD_OF(type);
    const int most = way == ADD || IS_SMALL(type) ? 8 : 4;
    const bool is_short = way < ADD_VALID && (n <= SHORT || j->inner > 1 || type <= I1 || (type == U2 && (way != ADD || n <= 4 * SHORT)));
    const char *const end = j->end - padded * size;
    sums b = w->columns;
    for (const run *r = w->runs; r < w->runs + count; r++, b = moved(b, j->width)) {
        const char *rows = r->rows + from * size;
        const int64_t height = r->height;
        int64_t h = 0;
        /* What is read behind a row is within the array, and what becomes of it is not looked at. */
        if (is_short && height > 1 && rows + (pitch > 0 ? (height - 1) * pitch : 0) <= end) {
            h = height < most ? height : most;
            switch (h) {
#define CASE(h) case h: if (h <= most) add_rows(j, type, way, h, true, b, rows, padded); break;
            CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
            }
            for (; h + 4 <= height; h += 4) add_rows(j, type, way, 4, false, b, rows + h * pitch, padded);
        }
        for (; h < height; h++) {
            const char *cells = rows + h * pitch;
            if (cells > end) cells = memcpy(w->edge, cells, n * size);
            for (Py_ssize_t v = 0; v < padded; v += SEGMENT, cells += SEGMENT * size) {
                const Py_ssize_t m = padded - v < SEGMENT ? padded - v : SEGMENT;
                /* The memory is read in order, but the processor does not see it through the columns. */
                for (Py_ssize_t c = 0; c < m * size; c += 64) __builtin_prefetch(cells + AHEAD + c);
                if (h == 0) add_rows(j, type, way, 1, true, moved(b, v), cells, m);
                else add_rows(j, type, way, 1, false, moved(b, v), cells, m);
            }
        }
    }
}

/* A loop for each element type and way, but for those that ask integers for NaN. */
#define DEFINE(type, way) \
    VERSIONS static void type##_##way(const worker *w, Py_ssize_t count, Py_ssize_t from, Py_ssize_t n) { \
        if (IS_FLOAT(type) || (way != ADD_NUMBERS && way != ADD_VALID)) columns(w, type, way, count, from, n); \
    }
#define ROW(type) DEFINE(type, ADD) DEFINE(type, ADD_NUMBERS) DEFINE(type, ADD_PRESENT) DEFINE(type, ADD_VALID) DEFINE(type, GREATEST)
LOOPS(ROW)
#undef ROW
static void (*const COLUMNS_OF[TYPES][WAYS])(const worker *, Py_ssize_t, Py_ssize_t, Py_ssize_t) = {
#define ROW(type) [type] = {type##_ADD, type##_ADD_NUMBERS, type##_ADD_PRESENT, type##_ADD_VALID, type##_GREATEST},
    LOOPS(ROW)
#undef ROW
};

/* ---------------------------------------------------------------- fold */

/* Puts columns [from, to), `apart`, behind those that the totals of `lanes` windows have. Each addition waits for the one
 * before, so windows are folded side by side: their columns lie `next` to each other, their totals `next_total`. */
ALWAYS void fold_lanes(const bool pairs, const enum way way, const int lanes, bool first, sums b, Py_ssize_t next,
                       Py_ssize_t apart, int64_t from, int64_t to, sums t, Py_ssize_t next_total) {
    const sums start = first ? moved(b, from * apart) : t;
    const Py_ssize_t next_start = first ? next : next_total;
    double sum[LANES], low[LANES] = {0};
    int32_t count[LANES] = {0};
    for (int l = 0; l < lanes; l++) {
        sum[l] = start.sum[l * next_start];
        if (pairs) low[l] = start.low[l * next_start];
        if (way != ADD) count[l] = start.count[l * next_start];
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
                lanes = inner - q >= LANES ? LANES : 1;
                if (lanes == LANES && first) fold_lanes(pairs, way, LANES, true, more, 1, inner, from, to, total, 1);
                else if (lanes == LANES) fold_lanes(pairs, way, LANES, false, more, 1, inner, from, to, total, 1);
                else fold_lanes(pairs, way, 1, first, more, 1, inner, from, to, total, 1);
            }
        }
    }
}

VERSIONS static void fold(const job *j, Py_ssize_t i, sums b, Py_ssize_t count, int64_t left, int64_t right, sums t) {
    if (j->way == GREATEST) fold_windows(j, false, GREATEST, i, b, count, left, right, t);
    else if (j->way == ADD && j->pairs) fold_windows(j, true, ADD, i, b, count, left, right, t);
    else if (j->way == ADD) fold_windows(j, false, ADD, i, b, count, left, right, t);
    else if (j->pairs) fold_windows(j, true, ADD_VALID, i, b, count, left, right, t);
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

/* Stores a result; whether it was finite and the type has only an infinity or a limit for it. In a type of integers
 * `fill` stands for NaN. */
ALWAYS bool store(const enum type type, char *out, double value, int64_t fill) {
    /* Results may lie anywhere. */
#define PUT(ctype, number) \
    const ctype stored = (ctype)(number); \
    memcpy(out, &stored, sizeof stored)
    switch (type) {
    case F8: { PUT(double, value); return false; }
    case F4: { PUT(float, value); return isinf(stored) & !isinf(value); }
#define CASE(type, fraction, bias, infinity) \
    case type: { \
        PUT(uint16_t, narrowed(value, fraction, bias)); \
        return (stored & 0x7fff) == infinity && !isinf(value); \
    }
    CASE(F2, 10, 15, 0x7c00) CASE(B2, 7, 127, 0x7f80)
#undef CASE
#define ROW(type, ctype, loops, least, most) \
    case type: { \
        double whole = rint(value), kept = whole < (double)least ? (double)least : whole > (double)most ? (double)most : whole; \
        PUT(ctype, value == value ? (ctype)kept : (ctype)fill); \
        return kept != whole && value == value; \
    }
    INTEGERS(ROW)
#undef ROW
#undef PUT
    default: return false;
    }
}

/* Whether enough cells of a window count. */
ALWAYS bool is_there(const worker *w, const bool skips, Py_ssize_t i) {
    double needed = w->j->min_valid * w->cells[i];
    return !skips || w->totals.count[i] >= (needed > 1 ? needed : 1);
}

ALWAYS double value_of(const bool pairs, const bool divides, double sum, double low, double valid) {
    return divides ? pairs ? divided(sum, low, valid) : sum / valid : pairs ? sum + low : sum;
}

/* `n` totals to results, one after the other; how many finite ones became infinite. */
ALWAYS int64_t finish_as(const worker *w, const bool pairs, const enum type result, const bool divides, const bool skips,
                         Py_ssize_t n, char *restrict out) {
    const sums t = w->totals;
    const double sign = divides ? 1 : w->j->of.sign;
    int64_t overflows = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        double valid = skips ? t.count[i] : w->cells[i];
        double value = value_of(pairs, divides, t.sum[i], pairs ? t.low[i] : 0, valid) * sign;
        bool exceeds = store(result, out + i * TABLE[result].size, is_there(w, skips, i) && value == value ? value : NAN, 0);
        if (result != F4) overflows += exceeds;     /* A float32 holds the means of all types that float64 adds without errors. */
    }
    return overflows;
}

/* The result of a window of float64 whose sum is not finite, from its cells, scaled by 2**-64; whether it became infinite. */
static bool rescue(const worker *w, Py_ssize_t i, double *result) {
    const job *j = w->j;
    const Py_ssize_t inner = j->inner, each = j->cols.count * inner, col = i % each / inner;
    const run rows = w->runs[i / each];
    double sum = -0.0, low = 0;     /* What -0.0 is added to does not change. */
    int32_t count = 0;
    for (int64_t c = j->cols.starts[col]; c < j->cols.stops[col]; c++) {
        double column = -0.0, error = 0;
        const char *cell = rows.rows + (c * inner + i % inner) * 8;
        for (int64_t r = 0; r < rows.height; r++, cell += j->row_stride) {
            double x = valid_element(j->of, F8, ADD_VALID, cell, 0, &count);
            if (x != x) return *result = NAN, false;
            join(true, ADD, false, x * 0x1p-64, -0.0, 1, &column, &error, &count);
        }
        join(true, ADD, false, column, error, 1, &sum, &low, &count);
    }
    if (isfinite(sum)) sum = value_of(true, j->reduction == MEAN, sum, low, j->skips ? w->totals.count[i] : w->cells[i]);
    *result = sum == sum ? sum * 0x1p64 : NAN;
    return isfinite(sum) && isinf(*result);
}

/* Results in float64 to their places, which are those of rows of windows from `first` on; how many became infinite or a limit. */
ALWAYS int64_t scatter(const job *j, const enum type result, const double *values, Py_ssize_t first, Py_ssize_t count) {
    const Py_ssize_t *to = j->out_strides, cols = j->cols.count, inner = j->inner;
    int64_t overflows = 0;
    for (Py_ssize_t k = 0; k < count; k++, values += cols * inner) {
        char *row = j->out + (first + k) / j->rows.count * to[0] + (first + k) % j->rows.count * to[1];
        for (Py_ssize_t q = 0, lanes; q < inner; q += lanes) {
            lanes = inner - q < 2 * LANES ? inner - q : 2 * LANES;
            for (Py_ssize_t i = 0; i < cols; i++)
                for (Py_ssize_t l = q; l < q + lanes; l++)
                    overflows += store(result, row + i * to[2] + l * to[3], values[i * inner + l], j->fill);
        }
    }
    return overflows;
}

/* The totals of `count` rows of windows, from row `first` on, to results; how many finite ones became infinite or a limit. */
VERSIONS static int64_t finish(const worker *w, Py_ssize_t first, Py_ssize_t count) {
    const job *j = w->j;
    const Py_ssize_t n = count * j->cols.count * j->inner;
    const bool is_direct = !j->scatters && j->reduction == MEAN && IS_FLOAT(j->result) && (j->result == F8) == j->pairs;
    char *const out = is_direct ? j->out + first * j->cols.count * j->inner * TABLE[j->result].size : (char *)w->values;
    int64_t overflows;
#define AS(pairs, result, divides) \
    (j->skips ? finish_as(w, pairs, result, divides, true, n, out) : finish_as(w, pairs, result, divides, false, n, out))
    if (is_direct && j->result == F4) return AS(false, F4, true);
    if (is_direct && j->result == F2) return AS(false, F2, true);
    if (is_direct && j->result == B2) return AS(false, B2, true);
    overflows = j->pairs ? AS(true, F8, j->reduction == MEAN) : AS(false, F8, j->reduction == MEAN);
#undef AS
    for (Py_ssize_t i = 0; j->pairs && i < n; i++)
        if (w->totals.sum[i] * 0 + w->totals.low[i] * 0 != 0 && is_there(w, j->skips, i)) overflows += rescue(w, i, (double *)out + i);
    if (is_direct) return overflows;
    return overflows + (j->result == F4 ? scatter(j, F4, w->values, first, count) : scatter(j, j->result, w->values, first, count));
}

/* ---------------------------------------------------------------- all of it */

/* Pools rows of windows [first, last), counted through all planes; how many finite results became infinite. */
static int64_t pool(const worker *w, Py_ssize_t first, Py_ssize_t last) {
    const job *j = w->j;
    const Py_ssize_t each = j->cols.count * j->inner;
    const int64_t end = j->cols.stops[j->cols.count - 1];
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
        Py_ssize_t i = 0;
        for (int64_t left = 0; left < end; left += j->across) {
            int64_t right = left + j->across < end ? left + j->across : end;
            j->columns(w, count, left * j->inner, (right - left) * j->inner);
            while (j->cols.stops[i] <= left) i++;
            fold(j, i, w->columns, count, left, right, w->totals);
        }
        overflows += finish(w, done, count);
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
static axis axis_of(const long long of[4], int64_t *places) {
    const int64_t whole = of[0] / of[1], rest = of[0] % of[1], origin = of[2] * whole + of[2] * rest / of[1];
    axis a = {of[3], places, places + of[3], 0};
    for (int64_t k = 0; k < of[3]; k++) {
        const int64_t i = of[2] + k, start = i * whole + i * rest / of[1], stop = (i + 1) * whole + ((i + 1) * rest + of[1] - 1) / of[1];
        a.starts[k] = start - origin, a.stops[k] = stop - origin;
        a.length = k == 0 || stop - start == a.length ? stop - start : 0;
    }
    return a;
}

/* `n` sums from a place in memory on, which take 3 * n numbers. */
static sums sums_at(double *place, Py_ssize_t n) { return (sums){place, place + n, (int32_t *)(place + 2 * n)}; }

/* Numbers from a line of the cache to one: that makes up to 1.5 times of difference. */
static Py_ssize_t lines(Py_ssize_t n) { return (n + 7) / 8 * 8; }

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
        type < 0 || type >= U8 || result < 0 || result >= TYPES || reduction < MEAN || reduction > MIN || threads < 1 ||
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
    const double least = (double)TABLE[type].least;
    if (IS_FLOAT(type)) has_missing &= type == F8 || (float)missing == missing;
    else has_missing &= missing >= least && missing <= (double)TABLE[type].most && rint(missing) == missing;
    skips_nan &= IS_FLOAT(type);
    j.skips = skips_nan || has_missing;
    j.of.offset = least + (IS_FLOAT(type) || j.size < 4 ? 0 : 0x1p31), j.of.flip = (uint32_t)(int64_t)-j.of.offset;
    j.of.sign = reduction == MIN ? -1 : 1;
    j.of.missing = has_missing ? missing : NAN, j.of.single = (float)j.of.missing, j.of.is_nan = skips_nan;
    j.of.small = has_missing && IS_SMALL(TABLE[type].loops) ? (int32_t)missing : 0;
    j.way = reduction >= MAX ? GREATEST : skips_nan ? has_missing ? ADD_VALID : ADD_NUMBERS : has_missing ? ADD_PRESENT : ADD;
    j.pairs = type == F8 && j.way != GREATEST, j.columns = COLUMNS_OF[TABLE[type].loops][j.way];
    const Py_ssize_t each = c[3] * j.inner, across = in.shape[2] < COLUMNS / j.inner ? in.shape[2] : COLUMNS / j.inner;
    j.across = across > 1 ? across : 1, j.width = (j.across * j.inner + PAD_OF(TABLE[type].loops) - 1) & -PAD_OF(TABLE[type].loops);
    const Py_ssize_t widest = j.width > each ? j.width : each, together = GROUP / widest / LANES * LANES;
    j.group = j.across < in.shape[2] || widest > COLUMNS ? 1 : together > LANES ? together : LANES;
    /* Shares are whole groups, and several for each thread, so that a slow one does not keep the others waiting. */
    const Py_ssize_t groups = (j.planes * r[3] + j.group - 1) / j.group, count = threads < groups ? threads : groups;
    Py_ssize_t next = 0;
    j.next = &next, j.share = (groups - 1 + count * SHARES) / (count * SHARES) * j.group;
    const Py_ssize_t columns = j.group * j.width, totals = lines(j.group * each), bounds = lines(2 * (r[3] + c[3]));
    const Py_ssize_t room = 3 * columns + 5 * totals + j.width + lines(2 * j.group);
    workers = PyMem_Calloc(count, sizeof *workers);
    memory = PyMem_Malloc((bounds + count * room + each) * 8 + 64);
    if (workers == NULL || memory == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    int64_t overflows = 0, *const places = (int64_t *)(memory + (64 - (uintptr_t)memory % 64));
    for (Py_ssize_t i = 0; i < count; i++) {
        double *const at = (double *)(places + bounds) + i * room, *const rest = at + 3 * columns + 3 * totals;
        workers[i] = (worker){.j = &j, .columns = sums_at(at, columns), .totals = sums_at(at + 3 * columns, totals), .cells = rest,
                              .values = rest + totals, .edge = (char *)(rest + 2 * totals), .runs = (run *)(rest + 2 * totals + j.width)};
    }
    bool fits;
    Py_BEGIN_ALLOW_THREADS
    j.rows = axis_of(r, places), j.cols = axis_of(c, places + 2 * r[3]), j.widths = (double *)(places + bounds) + count * room;
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
