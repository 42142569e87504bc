cdef class Parameters:
    cdef object __weakref__
    cdef readonly object values
    cdef readonly object statements
    cdef readonly object meaning
    cdef readonly dict ways
    cdef readonly bint hasty
