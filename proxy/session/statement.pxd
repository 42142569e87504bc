cdef class Statement:
    cdef object __weakref__
    cdef readonly bytes tail
    cdef readonly bytes server_name
    cdef readonly object verdict
    cdef readonly object routines
    cdef public object meaning
    cdef public object lexed
    cdef public object under
    cdef int constants
    cdef int analysed
    cdef public bint alone
    cdef readonly long long generation
    cdef readonly bytes shape
    cdef readonly bytes anew
    cpdef object judged(self, object verdict, object routines)
    cpdef bint is_analysed(self)
    cpdef bint has_constants(self)
    cpdef object like(self, Statement statement)
    cpdef bint agrees(self, bytes types, bytes shape)
    cpdef object told(self, bytes types, bytes shape, long long generation)
