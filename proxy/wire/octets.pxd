cdef Py_ssize_t u32(bytearray buffer, Py_ssize_t at) noexcept
cdef Py_ssize_t zero(bytearray buffer, Py_ssize_t at, Py_ssize_t end) noexcept
cdef bytes part(bytearray buffer, Py_ssize_t at, Py_ssize_t end)
cdef bytearray kept(bytearray buffer, Py_ssize_t at, Py_ssize_t end)
cdef bint equal(bytearray buffer, Py_ssize_t at, Py_ssize_t end, bytes other) noexcept
cdef int append(bytearray target, bytearray source, Py_ssize_t at, Py_ssize_t end) except -1

cdef class Pieces:
    cdef public bytearray buffer
    cdef public Py_ssize_t used
    cdef object _grow(self, Py_ssize_t more)
    cpdef object add(self, bytearray source, Py_ssize_t at, Py_ssize_t end)
    cpdef object add_bytes(self, bytes source)
    cpdef object add_head(self, int kind, Py_ssize_t length)
