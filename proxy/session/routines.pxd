cdef class Routines:
    cdef readonly object by_name
    cdef object _always
    cdef object _foreign
    cdef dict _by_word
    cdef dict _kept
    cdef object _slots
    cdef unsigned int _mask
    cpdef bint named(self, bytearray buffer, Py_ssize_t at, Py_ssize_t end, bint backslashes, int wide)

cdef bint _listed(unsigned int *slots, unsigned int mask, unsigned int value) noexcept
cdef unsigned int _hashed(unsigned char *p, Py_ssize_t at, Py_ssize_t stop) noexcept
cdef bint _ascii(unsigned char *p, Py_ssize_t at, Py_ssize_t stop) noexcept
