cdef class Tokens:
    cdef readonly bytes text
    cdef readonly bytes raw
    cdef readonly bint backslashes
    cdef readonly bint body
    cdef readonly int wide
    cdef readonly Py_ssize_t stop
    cdef readonly Py_ssize_t start
    cdef readonly int kind
    cdef readonly bint first
    cdef readonly Py_ssize_t begun
    cdef readonly Py_ssize_t last
    cdef Py_ssize_t _last_start
    cdef Py_ssize_t _before_start
    cdef Py_ssize_t _before_stop
    cdef Py_ssize_t _end
    cdef bint _follows
    cpdef bint advance(self)
    cpdef bint seek(self)
    cpdef bint skim(self)
    cdef bint _interesting(self)
    cdef bint _opens_body(self)
    cdef bint _is(self, bytes word)
    cpdef bint over(self)
    cpdef bint run_to(self, bytes word)
    cpdef bint called(self)
    cpdef str word(self)

cdef str _folded(bytes text, Py_ssize_t start, Py_ssize_t stop)
