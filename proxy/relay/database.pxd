from proxy.pool.pool cimport Pool

cdef class Database(Pool):
    cdef public object target
    cdef public object limits
    cdef public object address
    cdef public object failure
    cdef public double check_delay
    cdef readonly dict defaults
    cdef readonly dict greetings
    cdef public object policy
    cdef readonly object reported
    cdef public bint careful
    cdef public bint resets
    cdef public long long generation
    cdef public double audit_share
    cdef double audit_debt
    cpdef bint audit_due(self)
