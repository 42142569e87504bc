from proxy.relay.naming cimport Naming

cdef int _COPY_DATA
cdef Py_ssize_t _MAX_SIZE

cdef class Client(Naming):
    cdef object _hold(self, bytearray buffer, Py_ssize_t at, Py_ssize_t n)
    cdef object _violated(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end, str said)
    cdef object _await_answers(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end)
    cdef bint _waits(self, int kind, bytearray buffer, Py_ssize_t at)
    cdef bint _awaited(self, int kind, Py_ssize_t size)
    cdef object _send_on(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end)
    cdef bint _other(self, int kind, bytearray buffer, Py_ssize_t at)
    cdef object _refuse_simple(self)
    cdef bint _alone(self, int kind)
    cdef object _check_kind(self, int kind)
    cpdef bint cancel_waiting(self)
    cdef bint _amid(self)
    cdef object _leave(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
