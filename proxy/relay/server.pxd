from proxy.relay.answering cimport Answering
from proxy.session.parameters cimport Parameters

cdef class Server(Answering):
    cdef readonly int process_id
    cdef readonly bytes secret
    cdef public long long last
    cdef public bint shared
    cdef object planned
    cdef Parameters audited
    cdef bint audits
    cdef object looking
    cdef long long changes
    cdef readonly int cancels
    cdef readonly bint cancelled
    cdef readonly list cleanings
    cdef public double opened_at
    cdef public double idle_since
    cdef public double expires_at
    cdef public double deadline
    cdef public double cancel_again
    cdef public object reason
    cdef public int number
    cpdef object to_clean(self, int conditions)
    cpdef object to_reset(self, bytes sql)
    cpdef object run(self, bytes sql)
    cpdef bytes query_ahead(self, bytes sql)
    cpdef object free(self)
    cpdef bint plans_anew(self, object meaning)
    cpdef bytes look(self)
    cpdef bytes looked(self, object error)
    cdef object _audit(self)
    cdef bint _audit_due(self)
    cdef object _audited(self)
    cdef bint _cannot_audit(self)
    cdef object _to_pool(self)
    cdef object _learn(self)
    cdef object _rest(self)
    cdef object _clean(self)
    cpdef object abandon(self, bint mid_message, bint orderly)
    cdef object _finish_for_client(self)
    cpdef object cancel_begins(self)
    cpdef object cancel_ended(self)
    cpdef object end(self)
