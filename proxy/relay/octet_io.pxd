cdef enum:
    CLOSED = -1
    BLOCKED = -2

cdef Py_ssize_t receive_into(int fd, bytearray buffer, Py_ssize_t at, Py_ssize_t end)
cdef Py_ssize_t send_from(int fd, bytearray buffer, Py_ssize_t at, Py_ssize_t end)
cpdef object accept(object listening)
