cdef class Wish:
    cdef readonly str user
    cdef readonly str database
    cdef readonly object parameters
    cdef readonly object name
    cdef readonly bytes negotiation
    cdef readonly tuple replication
    cdef readonly bint physical
    cdef readonly str kind
