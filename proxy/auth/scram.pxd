from proxy.auth.keys cimport ScramKeys

cdef class ScramServer:
    cdef bytes _salt
    cdef int _iterations
    cdef bytes _nonce
    cdef bytes _binding
    cdef bint _plus
    cdef bytes _messages
    cdef bytes _bound
    cdef readonly bytes client_key
    cpdef bytes first(self, bytes message)
    cpdef bytes final(self, bytes message, ScramKeys keys)
    cdef object _check_flag(self, bytes flag)
