from proxy.session.owed cimport Owed
from proxy.session.statement cimport Statement

cdef enum:
    TOLD = 5

cdef class Results:
    cdef public dict held
    cdef readonly Statement differs
    cdef readonly long long generation
    cdef public Statement unnamed
    cpdef bint doubts(self, Statement statement)
    cpdef bint told(self, object note, bytes types, bytes shape)
    cpdef void distrust(self)
    cpdef void renew(self, long long generation)
    cpdef void describe(self, Statement statement, Owed owed)
