cdef class ScramKeys:
    cdef readonly int iterations
    cdef readonly bytes salt
    cdef readonly bytes client_key
    cdef readonly bytes stored_key
    cdef readonly bytes server_key
    cpdef ScramKeys with_client_key(self, bytes client_key)

cdef class KeyRequest:
    cdef readonly str password
    cdef readonly bytes salt
    cdef readonly int iterations

cdef class KeyCache:
    cdef Py_ssize_t _size
    cdef object _salts
    cdef object _passwords
    cdef readonly dict _found
    cpdef ScramKeys get(self, KeyRequest request)
    cpdef object put(self, KeyRequest request, ScramKeys keys)
    cpdef bytes salt_for(self, str user)
    cdef object _place(self, KeyRequest request)
