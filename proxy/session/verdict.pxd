cdef class Verdicts:
    cdef readonly Py_ssize_t limit
    cdef readonly Py_ssize_t longest
    cdef dict _young
    cdef dict _old
    cdef Py_ssize_t _size
    cdef object _keep(self, object key, Py_ssize_t size, object known)

cpdef object read(bytes text, bint backslashes=*, int wide=*, bint body=*)
