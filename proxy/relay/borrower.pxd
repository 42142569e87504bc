from proxy.relay.link cimport Link
from proxy.session.session cimport Session

cdef class Borrower(Link):
    cdef public Session session
    cdef public bint settling
    cdef public bint blockless
    cpdef object on_settled(self)
    cpdef object on_boundary(self)
    cpdef object on_silence(self)
    cpdef object on_in_transaction(self)
    cpdef object on_prepared(self, object error)
    cpdef object on_server_lost(self, object error)
    cpdef object recount(self)
    cpdef object take(self, object server)
