from proxy.session.tokens cimport Statements

cdef class Routines:
    cdef readonly object by_name
    cdef object _always
    cdef object _foreign
    cdef dict _by_word
    cdef dict _kept
    cdef object _slots
    cdef unsigned int *_table
    cdef unsigned int _mask
    cdef bint _may_be(self, unsigned char *p, int kind, Py_ssize_t at, Py_ssize_t stop) noexcept
    cdef object _find(self, Statements tokens, list called)
    cpdef bint named(self, bytearray buffer, Py_ssize_t at, Py_ssize_t end, bint backslashes, int wide)

cdef bint _makes_table(Statements tokens) noexcept
cdef bint _listed(unsigned int *slots, unsigned int mask, unsigned int value) noexcept
cdef unsigned int _hashed(unsigned char *p, Py_ssize_t at, Py_ssize_t stop) noexcept
cdef bint _ascii(unsigned char *p, Py_ssize_t at, Py_ssize_t stop) noexcept
