from proxy.relay.asking cimport Asking
from proxy.relay.server cimport Server
from proxy.session.session cimport Session

cdef enum:
    STAYS = 0
    LEAVES = 1
    DISMISSED = 2

cdef class Borrowing(Asking):
    cdef public object login
    cdef public int simple
    cdef public int leaving
    cdef object goodbye
    cdef public bint waiting
    cdef bint resting
    cdef public int pinned_for
    cdef int latest
    cdef public double opened_at
    cdef readonly double waiting_since
    cdef readonly double begun_at
    cdef double asked_at
    cdef readonly double active_at
    cdef public bytes key
    cdef public object address
    cdef public object tunnel
    cdef public str user
    cdef public bint recalls
    cdef readonly object recalled
    cdef object _relay(self, bytearray buffer, Py_ssize_t n)
    cpdef bint at_rest(self)
    cdef bint _borrow(self)
    cpdef object be_replicated(self)
    cpdef object be_greeted(self)
    cpdef object need_not_wait(self)
    cdef object _wait(self, bint front)
    cdef bint _have(self, Server server, double moment)
    cdef bint _suits(self, Server server, double moment)
    cdef object _have_another(self)
    cpdef object hear_early(self)
    cpdef bint at_boundary(self)
    cpdef bint silent(self, double moment)
    cpdef object dismiss(self, object reason, object error)
    cdef object _see_off(self)
    cdef object _made(self, Session session)
    cdef object _stir(self)
    cdef object _give_back(self)
