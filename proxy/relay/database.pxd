from proxy.pool.pool cimport Pool
from proxy.session.routines cimport Routines

cdef enum:
    NOT_NOW = 0
    DUE = 1
    NEEDED = 2

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
    cdef public bint certain
    cdef public bint resets
    cdef readonly bint once
    cdef public bint replicates
    cdef public long long generation
    cdef public double audit_share
    cdef double audit_debt
    cdef readonly object catalog
    cdef public str date_style
    cdef readonly Routines routines
    cdef readonly int watches
    cdef readonly int looks
    cdef readonly long long changes
    cdef readonly long long seen
    cdef readonly long long age
    cdef int cancelled
    cdef double looked_at
    cdef double changed_at
    cpdef bint audit_due(self)
    cpdef object routines_changed(self)
    cpdef object look_again(self, double moment)
