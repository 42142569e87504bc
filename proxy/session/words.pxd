cdef enum:
    TOO_LONG = 64
    LOWER_A = 97
    UPPER_A = 65
    UPPER_Z = 90

cdef bint same(unsigned char *p, Py_ssize_t at, bytes word) noexcept
cdef bytes part(bytes text, Py_ssize_t start, Py_ssize_t stop)
cdef str lowered(bytes text, Py_ssize_t start, Py_ssize_t stop)

cdef class Words:
    cdef readonly dict table
    cdef bytes _places
    cdef unsigned char *_place
    cdef list _alike
    cdef object at(self, unsigned char *p, Py_ssize_t start, Py_ssize_t stop)

cdef Py_ssize_t _kind(int first, Py_ssize_t size) noexcept
