/* What formats do to bytes, where no library in reach does it at the speed of memory: checksums of archives
 * (checksum.py), and LZF, h5py's own filter (hdf5/chunks.py), which HDF5 undoes on one thread at a time.
 *
 * Where this is not compiled, zlib sums up, and the HDF5 library undoes LZF.
 */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum {
    FAR = 4018, MIDDLE = 2181, NEAR = 1927, /* How far on a byte goes. */
    STEP = 128,                             /* Bytes that go together, so that the compiler makes vectors of them, */
    RUN = 64 * STEP,                        /* and bytes whose sums are kept for those behind them, in the level-1 cache. */
};

PyDoc_STRVAR(fold_doc,
             "fold(data, crc, /)\n--\n\n"
             "Fewer bytes with the CRC-32 that `data` has behind bytes of the sum `crc`, if nothing comes before them.\n\n"
             "A CRC is the remainder of a polynomial over two elements. That of CRC-32 divides\n"
             "x^4018 + x^2091 + x^1837 + 1, and with every exponent multiplied by eight. So the remainder stays the same\n"
             "where a byte goes from its place to three places further on, and the last FAR bytes and a few are left.");

/* `moved` are the bytes with what came to them from those before; the first `whole` go on, and `rest` gets the others. */
static void fold(const uint8_t *restrict data, Py_ssize_t size, Py_ssize_t whole, uint32_t crc, uint8_t *restrict rest) {
    uint8_t buffer[FAR + RUN] = {0}, *const moved = buffer + FAR;
    for (Py_ssize_t start = 0; start < whole; start += RUN) {
        const Py_ssize_t count = whole - start < RUN ? whole - start : RUN;
        for (Py_ssize_t i = 0; i < count; i += STEP) {
            for (Py_ssize_t k = i; k < i + STEP; k++)
                moved[k] = data[start + k] ^ moved[k - NEAR] ^ moved[k - MIDDLE] ^ moved[k - FAR];
            /* A sum before is the same as other first bytes. */
            for (int k = 0; start + i == 0 && k < 4; k++) moved[k] ^= (uint8_t)(~crc >> 8 * k);
        }
        memmove(buffer, buffer + count, FAR);
    }
    memset(moved, 0, RUN);
    for (Py_ssize_t k = 0; k < size - whole; k++)
        rest[k] = data[whole + k] ^ moved[k - NEAR] ^ moved[k - MIDDLE] ^ moved[k - FAR];
}

static PyObject *py_fold(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer data;
    unsigned int crc;
    if (!PyArg_ParseTuple(args, "y*I", &data, &crc)) return NULL;
    const Py_ssize_t whole = (data.len - FAR) / STEP * STEP;
    PyObject *rest = NULL;
    if (data.len < FAR + STEP) PyErr_SetString(PyExc_ValueError, "there are too few bytes to be folded");
    else rest = PyBytes_FromStringAndSize(NULL, data.len - whole);
    if (rest != NULL) {
        uint8_t *target = (uint8_t *)PyBytes_AsString(rest);
        Py_BEGIN_ALLOW_THREADS
        fold(data.buf, data.len, whole, crc, target);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    return rest;
}

PyDoc_STRVAR(unlzf_doc,
             "unlzf(data, out, /)\n--\n\n"
             "Fill `out` with what LZF made `data` of; the number of bytes, or -1 where that is more than `out` holds, or damaged.\n\n"
             "A control byte below 32 has so many literal bytes, and one more, behind it. Others are a length, two less, in\n"
             "their upper three bits (if these are 7, plus the next byte) and a distance back, one less, in 13 bits.");

static Py_ssize_t unlzf(const uint8_t *data, Py_ssize_t size, uint8_t *out, Py_ssize_t room) {
    Py_ssize_t at = 0, done = 0;
    while (at < size) {
        const int control = data[at++];
        Py_ssize_t length = control + 1, distance = 0;
        if (control >= 32) {
            length = (control >> 5) + 2;
            if (length == 9 && at < size) length += data[at++];
            if (at == size) return -1;
            distance = (control & 31) << 8 | data[at++];
            if (++distance > done) return -1;
        } else if (length > size - at) return -1;
        if (length > room - done) return -1;
        uint8_t *target = out + done;
        const uint8_t *source = distance ? target - distance : data + at;
        /* Sixteen bytes at a time, and some behind the last, where they do not overlap and there is room for these. */
        if ((distance == 0 ? size - at : distance < 16 ? 0 : room) >= length + 16 && room - done >= length + 16)
            for (Py_ssize_t k = 0; k < length; k += 16) memcpy(target + k, source + k, 16);
        else if (distance == 1) memset(target, *source, length);
        else
            for (Py_ssize_t k = 0; k < length; k++) target[k] = source[k];
        done += length;
        at += distance ? 0 : length;
    }
    return done;
}

static PyObject *py_unlzf(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer data, out;
    if (!PyArg_ParseTuple(args, "y*w*", &data, &out)) return NULL;
    Py_ssize_t done;
    Py_BEGIN_ALLOW_THREADS
    done = unlzf(data.buf, data.len, out.buf, out.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    return PyLong_FromSsize_t(done);
}

static PyMethodDef METHODS[] = {{"fold", py_fold, METH_VARARGS, fold_doc}, {"unlzf", py_unlzf, METH_VARARGS, unlzf_doc}, {NULL, NULL, 0, NULL}};
static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_bytes", "What formats do to bytes.", 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__bytes(void) { return PyModuleDef_Init(&MODULE); }
