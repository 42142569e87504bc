cdef Py_ssize_t u32(bytearray buffer, Py_ssize_t at)
cdef Py_ssize_t zero(bytearray buffer, Py_ssize_t at, Py_ssize_t end)
cdef int append(bytearray target, bytearray source, Py_ssize_t at, Py_ssize_t end) except -1
