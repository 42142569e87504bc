cdef class Randomness:
    cdef object _source
    cdef bytes _fetched
    cdef Py_ssize_t _used
    cpdef bytes take(self, Py_ssize_t size)
