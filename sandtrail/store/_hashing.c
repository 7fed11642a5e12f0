/* The leaves of frames and the levels of nodes above them, each in one call: what sandtrail/store/leaves.py and merkle.py do in
 * Python, byte for byte. SHA-256 is libcrypto's, found when the module is loaded, so that building this needs a compiler
 * and Python's headers and nothing else. Without libcrypto.so.3 the import fails, and Python goes on alone.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030C0000
#include <Python.h>
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

enum { HASH = 32, SALT = 32 };

/* A record as sandtrail/store/spool.py has it. */
enum { KIND_AT = 4, ZERO_AT = 6, COUNT_AT = 8, LENGTH_AT = 12, STREAM_AT = 16, SEQ_AT = 24, WHEN_AT = 32, HEADER = 60 };
enum { MAX_BODY = 64 << 20 };
static const char magic[4] = "STr1";

/* SHA256_CTX, which is 112 bytes in every release of libcrypto.so.3: applications allocate it, so it cannot grow. */
typedef union {
    unsigned char bytes[256];
    uint64_t aligned;
} Context;

static int (*sha256_init)(Context *);
static int (*sha256_update)(Context *, const void *, size_t);
static int (*sha256_final)(unsigned char *, Context *);

static uint64_t read_number(const unsigned char *from, int width)
{
    uint64_t value = 0;
    for (int at = width; at-- > 0;)
        value = value << 8 | from[at];
    return value;
}

static void write_number(unsigned char *to, uint64_t value, int width)
{
    for (int at = 0; at < width; at++, value >>= 8)
        to[at] = (unsigned char)value;
}

/* How many frames a run of records has, or -1 when it is none: what follows trusts the lengths in it. */
static Py_ssize_t count_frames(const unsigned char *at, size_t left)
{
    Py_ssize_t frames = 0;
    while (left) {
        if (left < HEADER || memcmp(at, magic, sizeof magic) || read_number(at + ZERO_AT, 2))
            return -1;
        const uint64_t count = read_number(at + COUNT_AT, 4), length = read_number(at + LENGTH_AT, 4);
        if (length > left - HEADER || length > MAX_BODY || !count || 4 * count > length ||
            read_number(at + SEQ_AT, 8) > UINT64_MAX - (count - 1))
            return -1;
        uint64_t sum = 4 * count;
        for (uint64_t frame = 0; frame < count; frame++)
            sum += read_number(at + HEADER + 4 * frame, 4);
        if (sum != length)
            return -1;
        frames += (Py_ssize_t)count;
        at += HEADER + length;
        left -= HEADER + length;
    }
    return frames;
}

/* SHA-256(00 || salt || stream || seq || kind || when || payload) of each frame; records that `count_frames` accepts. */
static void hash_leaves(const unsigned char *at, size_t left, const unsigned char *salts, unsigned char *out)
{
    const size_t width = salts ? SALT : 0;
    unsigned char message[1 + SALT + 8 + 8 + 1 + 3 * 8] = {0};
    unsigned char *stream = message + 1 + width, *seq = stream + 8, *kind = seq + 8, *when = kind + 1;
    const size_t head = (size_t)(when + 3 * 8 - message);
    while (left) {
        const size_t count = read_number(at + COUNT_AT, 4), length = read_number(at + LENGTH_AT, 4);
        const unsigned char *lengths = at + HEADER, *payload = lengths + 4 * count;
        uint64_t number = read_number(at + SEQ_AT, 8);
        memcpy(stream, at + STREAM_AT, 8);
        *kind = at[KIND_AT];
        memcpy(when, at + WHEN_AT, 3 * 8);
        for (size_t frame = 0; frame < count; frame++, lengths += 4, out += HASH) {
            const size_t size = read_number(lengths, 4);
            if (salts) {
                memcpy(message + 1, salts, SALT);
                salts += SALT;
            }
            write_number(seq, number++, 8);
            Context context;
            sha256_init(&context);
            sha256_update(&context, message, head);
            sha256_update(&context, payload, size);
            sha256_final(out, &context);
            payload += size;
        }
        at += HEADER + length;
        left -= HEADER + length;
    }
}

static PyObject *leaves(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer records, salts;
    if (!PyArg_ParseTuple(args, "y*y*", &records, &salts))
        return NULL;
    PyObject *result = NULL;
    const Py_ssize_t frames = count_frames(records.buf, (size_t)records.len);
    if (frames < 0)
        PyErr_SetString(PyExc_ValueError, "bytes that are no records");
    else if (frames > PY_SSIZE_T_MAX / HASH)
        PyErr_NoMemory();
    else if (salts.len && salts.len != frames * SALT)
        PyErr_SetString(PyExc_ValueError, "there must be as many salts as frames, or none");
    else if ((result = PyBytes_FromStringAndSize(NULL, frames * HASH)) != NULL)
        hash_leaves(records.buf, (size_t)records.len, salts.len ? salts.buf : NULL,
                    (unsigned char *)PyBytes_AsString(result));
    PyBuffer_Release(&records);
    PyBuffer_Release(&salts);
    return result;
}

/* SHA-256(01 || left || right) of each pair; a lone last hash moves up unchanged. */
static void hash_pairs(const unsigned char *below, size_t count, unsigned char *above)
{
    unsigned char message[1 + 2 * HASH] = {1};
    for (; count >= 2; count -= 2, below += 2 * HASH, above += HASH) {
        memcpy(message + 1, below, 2 * HASH);
        Context context;
        sha256_init(&context);
        sha256_update(&context, message, sizeof message);
        sha256_final(above, &context);
    }
    if (count)
        memcpy(above, below, HASH);
}

static PyObject *nodes(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer level;
    if (!PyArg_ParseTuple(args, "y*", &level))
        return NULL;
    PyObject *result = NULL;
    const Py_ssize_t count = level.len / HASH;
    if (level.len % HASH)
        PyErr_SetString(PyExc_ValueError, "a level of a tree is made of hashes of 32 bytes each");
    else if ((result = PyBytes_FromStringAndSize(NULL, (count / 2 + count % 2) * HASH)) != NULL)
        hash_pairs(level.buf, (size_t)count, (unsigned char *)PyBytes_AsString(result));
    PyBuffer_Release(&level);
    return result;
}

static PyMethodDef methods[] = {
    {"leaves", leaves, METH_VARARGS, "See sandtrail.store.leaves.record_leaves."},
    {"nodes", nodes, METH_VARARGS, "The next level of a tree, see sandtrail.store.merkle."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_hashing", "Leaves and nodes, with libcrypto's SHA-256.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__hashing(void)
{
    void *library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        /* POSIX has dlsym return functions too, ISO C does not know the cast. */
        *(void **)&sha256_init = dlsym(library, "SHA256_Init");
        *(void **)&sha256_update = dlsym(library, "SHA256_Update");
        *(void **)&sha256_final = dlsym(library, "SHA256_Final");
    }
    if (!sha256_init || !sha256_update || !sha256_final) {
        PyErr_SetString(PyExc_ImportError, "libcrypto.so.3 with SHA-256 was not found");
        return NULL;
    }
    return PyModule_Create(&definition);
}
