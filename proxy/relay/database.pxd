from proxy.pool.pool cimport Pool

cdef class Database(Pool):
    cdef public object target
    cdef public object limits
    cdef public object address
    cdef public object failure
    cdef public double check_delay
    cdef readonly dict defaults
    cdef readonly dict greetings
