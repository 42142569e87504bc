cdef Py_ssize_t _next_dot(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef bint _begins(int code) noexcept
cdef bint _goes_on(int code, bint dollars) noexcept
