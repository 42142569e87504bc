from proxy.auth.keys cimport KeyCache, KeyRequest, ScramKeys

cdef class Next:
    cdef readonly tuple request

cdef class Done:
    cdef readonly tuple request
    cdef readonly ScramKeys keys
    cdef readonly str password

cdef class Conversation:
    cdef readonly str user
    cdef readonly tuple request
    cdef public str reason
    cdef public KeyRequest pending
    cdef bint _over
    cdef Py_ssize_t _limit
    cpdef object respond(self, bytes payload)
    cpdef object supply(self, ScramKeys keys)
    cpdef object _answered(self, bytes payload)
    cpdef object _supplied(self, KeyRequest request, ScramKeys keys)

cpdef KeyRequest own_request(str user, str password, KeyCache cache)
