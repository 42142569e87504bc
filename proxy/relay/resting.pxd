from proxy.relay.answering cimport Answering
from proxy.session.parameters cimport Parameters

cdef class Resting(Answering):
    cdef readonly int cancels
    cdef readonly bint cancelled
    cdef readonly list cleanings
    cdef Parameters audited
    cdef object looking
    cdef long long changes
    cdef public long long last
    cdef bint audits
    cdef object planned
    cdef public object leaves
    cdef public double opened_at
    cdef public double idle_since
    cdef public double deadline
    cdef public double cancel_again
    cdef public object reason
    cpdef object run(self, bytes sql)
    cpdef bytes query_ahead(self, bytes sql)
    cpdef object to_clean(self, int conditions)
    cpdef object to_reset(self, bytes sql)
    cpdef object free(self)
    cpdef bint plans_anew(self, object meaning)
    cpdef bint replans(self)
    cpdef bytes look(self)
    cpdef bytes looked(self, object error)
    cdef object _learn(self)
    cdef bint _audit_due(self)
    cdef object _audit(self)
    cdef object _audited(self)
    cdef bint _cannot_audit(self)
    cdef object _to_pool(self)
    cdef object _rest(self)
    cdef object _clean(self)
