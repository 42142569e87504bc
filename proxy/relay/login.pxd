from proxy.relay.client cimport Client

cdef class Login:
    cdef readonly Client _client
    cdef object _hub
    cdef int _step
    cdef object _conversation
    cdef readonly str user
    cdef readonly str database
    cdef readonly str reason
    cdef public bytes said
    cdef readonly object wish
    cpdef object feed(self, bytearray buffer, Py_ssize_t n)
    cdef Py_ssize_t _first_packet(self, bytearray buffer, Py_ssize_t n)
    cdef Py_ssize_t _password(self, bytearray buffer, Py_ssize_t n)
    cdef Py_ssize_t _too_early(self, Py_ssize_t n)
