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

enum { HASH = 32, SALT = 32, FIELDS = 41, SEQ_AT = 8 };

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

/* SHA-256(00 || salt || fields || payload) of each frame; `fields` holds the first frame's seq, which counts up. */
static int hash_leaves(const Py_buffer *fields, const Py_buffer *lengths, const Py_buffer *payloads,
                       const Py_buffer *salts, unsigned char *out)
{
    const size_t count = (size_t)lengths->len / 4, salt = salts->len ? SALT : 0;
    const unsigned char *length_at = lengths->buf, *payload = payloads->buf, *salt_at = salts->buf;
    size_t left = (size_t)payloads->len;
    unsigned char message[1 + SALT + FIELDS] = {0};
    unsigned char *own = message + 1 + salt;
    memcpy(own, fields->buf, FIELDS);
    uint64_t seq = read_number(own + SEQ_AT, 8);
    for (size_t at = 0; at < count; at++, length_at += 4, out += HASH) {
        const size_t length = (size_t)read_number(length_at, 4);
        if (length > left)
            return 0;
        if (salt)
            memcpy(message + 1, salt_at + SALT * at, SALT);
        write_number(own + SEQ_AT, seq++, 8);
        Context context;
        sha256_init(&context);
        sha256_update(&context, message, 1 + salt + FIELDS);
        sha256_update(&context, payload, length);
        sha256_final(out, &context);
        payload += length;
        left -= length;
    }
    return left == 0;
}

static PyObject *leaves(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer fields, lengths, payloads, salts;
    if (!PyArg_ParseTuple(args, "y*y*y*y*", &fields, &lengths, &payloads, &salts))
        return NULL;
    PyObject *result = NULL;
    const Py_ssize_t count = lengths.len / 4;
    if (fields.len != FIELDS || lengths.len % 4)
        PyErr_SetString(PyExc_ValueError, "the fields of a leaf take 41 bytes, a length 4");
    else if (salts.len && (salts.len % SALT || salts.len / SALT != count))
        PyErr_SetString(PyExc_ValueError, "there must be as many salts as frames, or none");
    else if (count > PY_SSIZE_T_MAX / HASH)
        PyErr_NoMemory();
    else if ((result = PyBytes_FromStringAndSize(NULL, count * HASH)) != NULL &&
             !hash_leaves(&fields, &lengths, &payloads, &salts, (unsigned char *)PyBytes_AsString(result))) {
        Py_CLEAR(result);
        PyErr_SetString(PyExc_ValueError, "the lengths of the frames do not add up to their payloads");
    }
    PyBuffer_Release(&fields);
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&payloads);
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
    {"leaves", leaves, METH_VARARGS, "See sandtrail.store.leaves.frame_leaves."},
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
