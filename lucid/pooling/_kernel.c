/* The compiled twin of sums.py: the same windows, the same order of addition, the same bits.
 *
 *     cells  ──columns──▶  bands   one value for each column of a window's rows, added top to bottom
 *     bands  ──fold─────▶  totals  the columns of each window, left to right
 *     totals ──finish───▶  means   divided and rounded once
 *
 * The source is (lead..., H, W, inner): `inner` is 1 for NCHW and C for NHWC, where a column is a run of C
 * elements. The rows of a window are a run of W * inner elements each, so both layouts are the same loops.
 *
 * Every function that is marked ALWAYS takes constants for element type and kind, so the compiler makes a loop
 * of its own for each: this is C's template. A new element type is a row of ELEMENTS and a case of `element`.
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
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))
/* The compiler's own multi-versioning; it needs ELF's indirect functions, which musl and macOS lack. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define VERSIONS __attribute__((target_clones("default", "arch=x86-64-v3")))
#else
#define VERSIONS
#endif

enum {
    SHORT = 32,     /* Rows up to so many elements are added eight at a time, in registers. */
    STRIP = 2048,   /* Elements of a band: with the cells that are read, it stays in the level-1 cache. */
    GROUP = 128,    /* Elements of bands that are folded at once, so that their latencies overlap. */
    SEGMENT = 64,   /* Elements of a long row between two words to the memory about what comes next, */
    AHEAD = 4096,   /* and how many bytes ahead that is. */
    PAD = 8,        /* Bands are whole multiples of so many elements, so that no loop has a rest. */
};

/* Name, code (as in dtypes.py), C type of a result, kind of accumulator. */
#define ELEMENTS(ROW) \
    ROW(U1, 0, uint8_t, FLOAT) ROW(I1, 1, int8_t, FLOAT) ROW(U2, 2, uint16_t, FLOAT) ROW(I2, 3, int16_t, FLOAT) \
    ROW(F2, 4, uint16_t, FLOAT) ROW(B2, 5, uint16_t, FLOAT) ROW(F4, 6, float, FLOAT) ROW(F8, 7, double, DOUBLE) \
    ROW(U4, 8, uint32_t, INTEGER) ROW(I4, 9, int32_t, INTEGER) ROW(U8, 10, uint64_t, INTEGER) ROW(I8, 11, int64_t, INTEGER)
enum type {
#define ROW(name, code, ctype, kind) name = code,
    ELEMENTS(ROW)
#undef ROW
    TYPES
};
/* What sums of an element type are: a float64; one with its error; two halves of an integer. */
enum kind { FLOAT, DOUBLE, INTEGER };
/* What is done with the cells of a window. The least is the greatest of the negated. */
enum way { ADD, ADD_VALID, GREATEST };
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
    axis rows, cols;
    enum type type, result;
    enum reduction reduction;
    bool skips, skips_nan, has_missing;     /* skips: some cells may count as nothing */
    word missing;
    int32_t missing_small;                  /* the same for integers of 8 and 16 bits */
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

/* Element i of a run, as float64. */
ALWAYS double element(const enum type type, const char *run, Py_ssize_t i) {
    switch (type) {
    case U1: return ((const uint8_t *)run)[i];
    case I1: return ((const int8_t *)run)[i];
    case U2: return ((const uint16_t *)run)[i];
    case I2: return ((const int16_t *)run)[i];
    case F2: return half(((const uint16_t *)run)[i]);
    case B2: return from_bits((uint32_t)((const uint16_t *)run)[i] << 16);
    case F4: return ((const float *)run)[i];
    default: return ((const double *)run)[i];
    }
}

/* The same, 0 where it does not count, and whether it does. Compared in its own type and masked as bits: registers hold
 * most of that at once, and compilers see it. */
ALWAYS double valid_element(const enum type type, const char *run, Py_ssize_t i, const job *j, int32_t *valid) {
    if (type == F8) {
        double x = ((const double *)run)[i];
        uint64_t bits, mask = (-(uint64_t)(x == x) | -(uint64_t)!j->skips_nan) & -(uint64_t)(x != j->missing.f);
        memcpy(&bits, &x, 8);
        bits &= mask;
        memcpy(&x, &bits, 8);
        *valid = (int32_t)(mask & 1);
        return x;
    }
    if (type < F2) {
        int32_t x = type == U1 ? ((const uint8_t *)run)[i] : type == I1 ? ((const int8_t *)run)[i]
                  : type == U2 ? ((const uint16_t *)run)[i] : ((const int16_t *)run)[i];
        int32_t mask = -(x != j->missing_small);
        *valid = -mask;
        return x & mask;
    }
    float x = (float)element(type, run, i);
    uint32_t bits, mask = (-(uint32_t)(x == x) | -(uint32_t)!j->skips_nan) & -(uint32_t)(x != (float)j->missing.f);
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
ALWAYS void step(const job *j, const enum type type, const enum way way, const double sign, const bool first,
                 const char *run, Py_ssize_t i, double *sum, double *low, int32_t *count) {
    int32_t valid = 1;
    double x = way == ADD ? element(type, run, i) : valid_element(type, run, i, j, &valid);
    if (way != ADD) *count = first ? valid : *count + valid;
    if (way == GREATEST) {
        /* NaN is greater than all if it counts. */
        double before = first ? -INFINITY : *sum;
        x *= sign;
        x = (x > before) | (x != x) ? x : before;
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

/* Adds `h` rows to the band, all at once: each band is read and written once. */
ALWAYS void rows_at_once(const job *j, const enum type type, const enum way way, double sign, band b, const char *rows,
                         Py_ssize_t pitch, const int h, const bool first, Py_ssize_t n) {
    double *restrict sums = &b.sum->f, *restrict lows = &b.low->f;
    int32_t *restrict counts = b.count;
    const char *restrict cells = rows;
    _Pragma("omp simd")
    for (Py_ssize_t v = 0; v < n; v++) {
        double sum = first ? 0 : sums[v], low = first || type != F8 ? 0 : lows[v];
        int32_t count = first || way == ADD ? 0 : counts[v];
#define CELL(r) if (h > r) step(j, type, way, sign, first && r == 0, cells + r * pitch, v, &sum, &low, &count)
        CELL(0); CELL(1); CELL(2); CELL(3); CELL(4); CELL(5); CELL(6); CELL(7);
#undef CELL
        sums[v] = sum;
        if (type == F8) lows[v] = low;
        if (way != ADD) counts[v] = count;
    }
}

/* Short rows: up to eight of them at once, and any further ones by four and one. */
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

/* The same for 32 and 64 bits: sums of the upper halves, and of the lower ones, overflow after 2**32 cells. */
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
            highs[v] = valid & (x > before) ? x : before;
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
    const int64_t flip = (j->reduction == MIN ? -1 : 0) ^ (type == U8 ? INT64_MIN : 0);
    for (Py_ssize_t k = 0; k < count; k++) {
        const char *rows = runs[k].rows + from * size;
        int64_t h = runs[k].height;
        if (type < U4 && way != GREATEST && n <= SHORT) {
            /* What is read behind a row is within the array, and what becomes of it is not looked at. */
            bool has_room = rows + (pitch > 0 ? (h - 1) * pitch : 0) + width * size <= j->end;
            short_rows(j, type, way, sign, b, rows, pitch, h, has_room ? width : n);
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
        b = (band){b.sum + width, b.low + width, b.count + width};
    }
}

typedef void columns_of(const job *, const run *, Py_ssize_t, band, Py_ssize_t, Py_ssize_t, Py_ssize_t);
#define DEFINE(name, type, way) \
    VERSIONS static void name(const job *j, const run *r, Py_ssize_t k, band b, Py_ssize_t w, Py_ssize_t from, Py_ssize_t n) { \
        columns(j, type, way, r, k, b, w, from, n); \
    }
#define ROW(name, code, ctype, kind) \
    DEFINE(name##_add, name, ADD) DEFINE(name##_add_valid, name, ADD_VALID) DEFINE(name##_greatest, name, GREATEST)
ELEMENTS(ROW)
#undef ROW
static const struct {
    columns_of *columns[3];
    Py_ssize_t size;
    enum kind kind;
} TABLE[TYPES] = {
#define ROW(name, code, ctype, kind) {{name##_add, name##_add_valid, name##_greatest}, sizeof(ctype), kind},
    ELEMENTS(ROW)
#undef ROW
};

/* ---------------------------------------------------------------- fold */

/* Windows of `w` columns each, one after the other: the compiler adds several of them at a time. */
ALWAYS void fold_even(double *restrict totals, const double *restrict columns, const int w, int64_t count) {
    for (int64_t j = 0; j < count; j++) {
        const double *c = columns + j * w;
        double total = c[0];
        if (w > 1) total += c[1];
        if (w > 2) total += c[2];
        if (w > 3) total += c[3];
        if (w > 4) total += c[4];
        if (w > 5) total += c[5];
        if (w > 6) total += c[6];
        if (w > 7) total += c[7];
        totals[j] = total;
    }
}

/* Puts a column behind those that a total has. */
ALWAYS void join(const enum kind kind, const enum way way, const bool first, word *sum, word *low, word more, word error) {
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

/* Columns [left, right) of a band to the totals of the windows that have some of them. */
ALWAYS void fold_columns(const job *j, const enum kind kind, const enum way way, band b, int64_t left, int64_t right, band t) {
    const Py_ssize_t inner = j->inner;
    const word none = {0};
    for (Py_ssize_t i = 0; i < j->cols.count && j->cols.starts[i] < right; i++) {
        int64_t start = j->cols.starts[i], stop = j->cols.stops[i];
        word *restrict sum = t.sum + i * inner, *restrict low = t.low + i * inner;
        for (int64_t c = start > left ? start : left; c < stop && c < right; c++) {
            const word *restrict more = b.sum + (c - left) * inner, *restrict error = b.low + (c - left) * inner;
            if (c == start)
                for (Py_ssize_t k = 0; k < inner; k++) join(kind, way, true, sum + k, low + k, more[k], kind == FLOAT ? none : error[k]);
            else
                for (Py_ssize_t k = 0; k < inner; k++) join(kind, way, false, sum + k, low + k, more[k], kind == FLOAT ? none : error[k]);
        }
    }
}

/* The same for whole bands of `count` windows' rows, where a column is one element. Each addition waits for the one before,
 * so four windows are added side by side. */
ALWAYS void fold_elements(const job *j, const enum kind kind, const enum way way, band b, Py_ssize_t width, Py_ssize_t count, band t) {
    const axis cols = j->cols;
    const word none = {0};
    const Py_ssize_t windows = count * cols.count;
    Py_ssize_t k = 0, i = 0;
    for (Py_ssize_t done = 0; done < windows; done += 4) {
        const int together = windows - done < 4 ? (int)(windows - done) : 4;
        Py_ssize_t at[4] = {0};
        int64_t length[4] = {0};
        for (int w = 0; w < together; w++) {
            at[w] = k * width + cols.starts[i], length[w] = cols.stops[i] - cols.starts[i];
            if (++i == cols.count) i = 0, k++;
        }
        for (int w = together; w < 4; w++) at[w] = at[0];
        word sum[4], low[4] = {{0}};
        for (int w = 0; w < 4; w++) join(kind, way, true, &sum[w], &low[w], b.sum[at[w]], kind == FLOAT ? none : b.low[at[w]]);
        int64_t o = 1;
        for (; o < cols.shortest; o++)
            for (int w = 0; w < 4; w++)
                join(kind, way, false, &sum[w], &low[w], b.sum[at[w] + o], kind == FLOAT ? none : b.low[at[w] + o]);
        for (int w = 0; w < together; w++) {
            for (int64_t rest = o; rest < length[w]; rest++)
                join(kind, way, false, &sum[w], &low[w], b.sum[at[w] + rest], kind == FLOAT ? none : b.low[at[w] + rest]);
            t.sum[done + w] = sum[w];
            if (kind != FLOAT) t.low[done + w] = low[w];
        }
    }
}

ALWAYS void fold_kind(const job *j, const enum kind kind, const enum way way, band b, Py_ssize_t width, Py_ssize_t count,
                      int64_t left, int64_t right, band t) {
    const Py_ssize_t each = j->cols.count * j->inner;
    if (j->inner == 1 && left == 0 && right == j->cols.stops[j->cols.count - 1]) {
        fold_elements(j, kind, way, b, width, count, t);
        return;
    }
    for (Py_ssize_t k = 0; k < count; k++) {
        fold_columns(j, kind, way, b, left, right, t);
        b = (band){b.sum + width, b.low + width, b.count}, t = (band){t.sum + each, t.low + each, t.count};
    }
}

VERSIONS static void fold(const job *j, enum kind kind, enum way way, band b, Py_ssize_t width, Py_ssize_t count, int64_t left,
                          int64_t right, band t) {
    /* Windows of a few columns each, without overlap, are most of what is asked for. */
    if (kind == FLOAT && way == ADD && j->inner == 1 && left == 0 && j->cols.even > 0 && j->cols.even <= 8 && j->cols.count > 1) {
        for (Py_ssize_t k = 0; k < count; k++) {
            double *totals = &t.sum[k * j->cols.count].f;
            const double *columns = &b.sum[k * width].f;
            switch (j->cols.even) {
#define CASE(w) case w: fold_even(totals, columns, w, j->cols.count); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
            }
        }
    }
    else if (way == GREATEST && kind == INTEGER) fold_kind(j, INTEGER, GREATEST, b, width, count, left, right, t);
    else if (way == GREATEST) fold_kind(j, FLOAT, GREATEST, b, width, count, left, right, t);
    else if (kind == INTEGER) fold_kind(j, INTEGER, ADD, b, width, count, left, right, t);
    else if (kind == DOUBLE) fold_kind(j, DOUBLE, ADD, b, width, count, left, right, t);
    else fold_kind(j, FLOAT, ADD, b, width, count, left, right, t);
}

/* ---------------------------------------------------------------- finish */

/* (sum + low) / cells to within an ulp, and exactly where all cells are equal: the remainder of a first quotient is
 * divided, too. The product is exact by Veltkamp's split, since the twin in NumPy has no fused one. */
ALWAYS double divided(double sum, double low, double cells) {
    double scale = fabs(sum) > 0x1p960 ? 0x1p-64 : 1;
    sum *= scale, low *= scale;
    double quotient = (sum + low) / cells, product = quotient * cells;
    double split = quotient * 134217729.0, upper = split - (split - quotient), lower = quotient - upper;
    split = cells * 134217729.0;
    double cells_upper = split - (split - cells), cells_lower = cells - cells_upper;
    double error = ((upper * cells_upper - product) + upper * cells_lower + lower * cells_upper) + lower * cells_lower;
    double rest = ((sum - product) - error) + low;
    return (quotient + rest / cells) / scale;
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

/* The sum of a window again, scaled by 2**-64: what overflowed in between may be finite in the end. */
static double scaled_again(const job *j, run r, Py_ssize_t col, Py_ssize_t k, double cells) {
    double total = 0, total_low = 0;
    for (int64_t c = j->cols.starts[col]; c < j->cols.stops[col]; c++) {
        word sum = {0}, low = {0};
        for (int64_t i = 0; i < r.height; i++) {
            double x = ((const double *)(r.rows + i * j->row_stride))[c * j->inner + k];
            if (x != x && !j->skips_nan) return NAN;
            if (x != x || (j->has_missing && x == j->missing.f)) continue;
            join(DOUBLE, ADD, false, &sum, &low, (word){x * 0x1p-64}, (word){0});
        }
        word both = {total}, both_low = {total_low};
        join(DOUBLE, ADD, false, &both, &both_low, sum, low);
        total = both.f, total_low = both_low.f;
    }
    if (!isfinite(total)) return total;
    return (j->reduction == MEAN ? divided(total, total_low, cells) : total + total_low) * 0x1p64;
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
    CASE(U1, uint8_t, 0, UINT8_MAX) CASE(I1, int8_t, INT8_MIN, INT8_MAX) CASE(U2, uint16_t, 0, UINT16_MAX)
    CASE(I2, int16_t, INT16_MIN, INT16_MAX) CASE(U4, uint32_t, 0, UINT32_MAX) CASE(I4, int32_t, INT32_MIN, INT32_MAX)
    CASE(U8, uint64_t, 0, UINT64_MAX) CASE(I8, int64_t, INT64_MIN, INT64_MAX)
#undef CASE
    default: return false;
    }
}

static bool store_float(enum type type, char *out, double value) {
    if (value != value) value = NAN;
    return type == F8 ? store(F8, out, value) : type == F4 ? store(F4, out, value)
         : type == F2 ? store(F2, out, value) : store(B2, out, value);
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
    if (is_extreme) value = j->reduction == MIN ? -value : value;
    else if (j->type != F8) value = is_mean ? value / valid : value;
    else if (!isfinite(sum.f) || !isfinite(low.f)) value = scaled_again(j, r, col, k, valid);
    else value = is_mean ? divided(sum.f, low.f, valid) : sum.f + low.f;
    if (to_float) return store_float(j->result, out, value);
    return store_integer(j->result, out, isfinite(value) ? (__int128)rint(value) : 0);
}

/* What is asked for most, means as floats, in loops of which the compiler does several rounds at a time. */
ALWAYS int64_t means(const enum kind kind, const enum type result, const bool skips, const job *j, band t, const double *restrict counts,
                     const double *restrict cells, Py_ssize_t count, char *restrict out) {
    const double *restrict sums = &t.sum->f, *restrict lows = &t.low->f;
    const double *restrict valid = skips ? counts : cells;
    const double min_valid = j->min_valid;
    int64_t overflows = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        double value = kind == DOUBLE ? divided(sums[i], lows[i], valid[i]) : sums[i] / valid[i];
        if (skips) value = valid[i] < min_valid * cells[i] ? NAN : value;  /* 0 / 0 is NaN by itself */
        value = value != value ? NAN : value;
        if (result == F8) ((double *)out)[i] = value;
        else if (result == F4) ((float *)out)[i] = (float)value;  /* which holds the mean of whatever a float32 holds */
        else overflows += store(result, out + i * 2, value);
    }
    return overflows;
}

/* Stores the totals of windows' rows, one after the other; how many finite results became infinite. */
VERSIONS static int64_t finish(const job *j, band t, const double *counts, const double *cells, const run *runs, Py_ssize_t count, char *out) {
    const enum kind kind = TABLE[j->type].kind;
    const Py_ssize_t inner = j->inner, each = j->cols.count * inner, size = TABLE[j->result].size;
    if (j->reduction == MEAN && kind == FLOAT) {
#define CASE(type) if (j->result == type) return j->skips ? means(FLOAT, type, true, j, t, counts, cells, count * each, out) \
                                                          : means(FLOAT, type, false, j, t, counts, cells, count * each, out);
        CASE(F4) CASE(F2) CASE(B2)
#undef CASE
    }
    const bool done = j->reduction == MEAN && kind == DOUBLE && j->result == F8;
    if (done) {
        if (j->skips) means(DOUBLE, F8, true, j, t, counts, cells, count * each, out);
        else means(DOUBLE, F8, false, j, t, counts, cells, count * each, out);
    }
    int64_t overflows = 0;
    for (Py_ssize_t i = 0; i < count * each; i++) {
        if (done && t.sum[i].f * 0 + t.low[i].f * 0 == 0) continue;  /* finite */
        overflows += finish_one(j, t.sum[i], t.low[i], j->skips ? counts[i] : cells[i], cells[i], runs[i / each],
                                i % each / inner, i % inner, out + i * size);
    }
    return overflows;
}

/* ---------------------------------------------------------------- all of it */

/* Pools every plane; `scratch` has the place that `scratch_words` says. How many finite results became infinite. */
static int64_t pool(const job *j, word *scratch, Py_ssize_t group, Py_ssize_t strip, Py_ssize_t width, run *runs) {
    const Py_ssize_t inner = j->inner, each = j->cols.count * inner, windows = j->planes * j->rows.count;
    const enum kind kind = TABLE[j->type].kind;
    const enum way way = j->reduction >= MAX ? GREATEST : j->skips ? ADD_VALID : ADD;
    const Py_ssize_t band_words = group * width, total_words = group * each;
    const band bands = {scratch, scratch + band_words, (int32_t *)(scratch + 3 * band_words)};
    word *const counts = scratch + 2 * band_words, *const totals_from = scratch + 4 * band_words;
    const band totals = {totals_from, totals_from + total_words, NULL};
    word *const valid = totals_from + 2 * total_words;
    double *const cells = &totals_from[3 * total_words].f, *const widths = cells + total_words;
    for (Py_ssize_t i = 0; i < each; i++) widths[i] = (double)(j->cols.stops[i / inner] - j->cols.starts[i / inner]);
    const int64_t last = j->cols.stops[j->cols.count - 1];
    int64_t overflows = 0;
    Py_ssize_t plane = 0, row = 0;
    bool has_nan = false;
    enum way here;
    for (Py_ssize_t done = 0; done < windows; done += group) {
        Py_ssize_t count = windows - done < group ? windows - done : group;
        for (Py_ssize_t k = 0; k < count; k++) {
            int64_t height = j->rows.stops[row] - j->rows.starts[row];
            runs[k] = (run){j->source + plane * j->plane_stride + j->rows.starts[row] * j->row_stride, height};
            for (Py_ssize_t i = 0; i < each; i++) cells[k * each + i] = (double)height * widths[i];
            if (++row == j->rows.count) row = 0, plane++;
        }
        /* While all cells count, none is looked at: a NaN among them shows in the totals, and they are added again. */
        bool looks = way != ADD_VALID || j->has_missing || has_nan;
        do {
            here = looks ? way : ADD;
            for (int64_t left = 0; left < last; left += strip) {
                int64_t right = left + strip < last ? left + strip : last;
                TABLE[j->type].columns[here](j, runs, count, bands, width, left * inner, (right - left) * inner);
                fold(j, kind, here, bands, width, count, left, right, totals);
                if (here == ADD) continue;
                for (Py_ssize_t i = 0; i < count * width; i++) counts[i].f = bands.count[i];
                fold(j, FLOAT, ADD, (band){counts, NULL, NULL}, width, count, left, right, (band){valid, NULL, NULL});
            }
            const double *numbers = here == ADD_VALID ? &valid->f : &totals.sum->f;
            has_nan = false;
            for (Py_ssize_t i = 0; i < count * each && way == ADD_VALID; i++) has_nan |= numbers[i] != (here == ADD_VALID ? cells[i] : numbers[i]);
        } while (way == ADD_VALID && !looks && has_nan && (looks = true));
        const double *divisors = here == ADD ? cells : &valid->f;
        overflows += finish(j, totals, divisors, cells, runs, count, j->out + done * each * TABLE[j->result].size);
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

PyDoc_STRVAR(pool_doc, "pool(source, out, height_axis, rows, cols, code, result, reduction, skip, missing, min_valid, fill)\n\n"
             "Reduce the windows `rows` x `cols`, each (n_in, n_out, first, count), of a C-contiguous `source`\n"
             "whose planes and rows may lie apart, into a C-contiguous `out`; see lucid.pooling.reduce.\n"
             "Returns how many finite results became infinite, or -1 where the source does not lie so.");

static PyObject *py_pool(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer in = {0}, out = {0};
    PyObject *source, *target, *answer = NULL;
    job j = {0};
    int height_axis, type, result, reduction, skip;
    long long r[4], c[4], missing_integer, fill;
    double missing;
    int has_missing;
    if (!PyArg_ParseTuple(args, "OOi(LLLL)(LLLL)iiiipdLdL", &source, &target, &height_axis, &r[0], &r[1], &r[2], &r[3], &c[0],
                          &c[1], &c[2], &c[3], &type, &result, &reduction, &skip, &has_missing, &missing, &missing_integer,
                          &j.min_valid, &fill) ||
        PyObject_GetBuffer(source, &in, PyBUF_STRIDES) || PyObject_GetBuffer(target, &out, PyBUF_STRIDES | PyBUF_WRITABLE))
        goto done;
    int h = height_axis, lies_so = 1;
    Py_ssize_t after = in.itemsize, reach = in.itemsize;
    j.inner = j.planes = 1;
    for (int i = in.ndim - 1; i > h; i--) {
        lies_so &= in.strides[i] == after || in.shape[i] == 1;
        after *= in.shape[i];
        if (i > h + 1) j.inner *= in.shape[i];
    }
    for (int i = h - 1; i >= 0; i--) {
        if (j.planes == 1) j.plane_stride = in.strides[i];
        lies_so &= in.strides[i] == j.plane_stride * j.planes || in.shape[i] == 1;
        j.planes *= in.shape[i];
    }
    if (!lies_so || type < 0 || type >= TYPES || result < 0 || result >= TYPES || TABLE[type].size != in.itemsize) {
        answer = PyLong_FromLong(-1);
        goto done;
    }
    for (int i = 0; i < in.ndim; i++)
        if (in.strides[i] > 0) reach += (in.shape[i] - 1) * in.strides[i];
    j.source = in.buf, j.end = j.source + reach, j.out = out.buf;
    j.row_stride = in.strides[h], j.size = in.itemsize;
    j.type = type, j.result = result, j.reduction = reduction;
    j.skips_nan = skip, j.has_missing = has_missing, j.skips = skip || has_missing;
    if (TABLE[type].kind == INTEGER) j.missing.i = missing_integer;
    else j.missing.f = has_missing ? missing : NAN;
    j.missing_small = has_missing && fabs(missing) < 65536 ? (int32_t)missing : INT32_MIN;
    j.fill.i = fill;
    const Py_ssize_t strip = STRIP / j.inner > 1 ? STRIP / j.inner : 1, each = c[3] * j.inner;
    const Py_ssize_t columns = after / in.itemsize / j.inner, across = columns < strip ? columns : strip;
    const Py_ssize_t width = (across * j.inner + PAD - 1) / PAD * PAD;
    const Py_ssize_t widest = width > each ? width : each, group = widest < GROUP && columns <= strip ? GROUP / widest : 1;
    const size_t words = 4 * group * width + 4 * group * each + each + 2 * (r[3] + c[3]) + 2 * group + PAD;
    word *scratch = PyMem_Malloc(words * sizeof(word));
    if (scratch == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    int64_t overflows;
    Py_BEGIN_ALLOW_THREADS
    int64_t *place = &scratch->i;
    j.rows = windows_of(r[0], r[1], r[2], r[3], place);
    j.cols = windows_of(c[0], c[1], c[2], c[3], place + 2 * r[3]);
    place += 2 * (r[3] + c[3]);
    overflows = pool(&j, (word *)place + 2 * group, group, strip, width, (run *)place);
    Py_END_ALLOW_THREADS
    PyMem_Free(scratch);
    answer = PyLong_FromLongLong(overflows);
done:
    if (in.obj) PyBuffer_Release(&in);
    if (out.obj) PyBuffer_Release(&out);
    return answer;
}

static PyMethodDef METHODS[] = {{"pool", py_pool, METH_VARARGS, pool_doc}, {NULL, NULL, 0, NULL}};
static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernel", "Compiled pooling; see sums.py.", 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&MODULE); }
