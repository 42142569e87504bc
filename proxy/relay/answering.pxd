from proxy.relay.borrower cimport Borrower
from proxy.relay.database cimport Database
from proxy.relay.link cimport Link
from proxy.session.owed cimport Owed
from proxy.session.parameters cimport Parameters
from proxy.session.prepared cimport Shelf
from proxy.session.session cimport Session
from proxy.wire.octets cimport Pieces

cdef Pieces _PIECES

cdef class Answering(Link):
    cdef readonly Database pool
    cdef readonly object hub
    cdef readonly Owed owed
    cdef readonly Shelf shelf
    cdef public Parameters parameters
    cdef readonly dict reported
    cdef public dict defaults
    cdef public Borrower client
    cdef public str state
    cdef public int status
    cdef readonly Py_ssize_t remaining
    cdef readonly bint dropping
    cdef Py_ssize_t unsaid
    cdef readonly bint farewell
    cdef readonly bint waited_for
    cdef readonly object error
    cdef public list errors
    cdef bytes instead
    cdef bytes types
    cdef int outdated
    cdef bint tells
    cdef public list rows
    cdef object _let_go_on(self)
    cdef object _after_ready(self)
    cpdef object close(self, object reason)
    cdef bint _seen_whole(self, int kind, Py_ssize_t size)
    cdef bint _account(self, int kind, bytearray buffer, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef object _row(self, object row)
    cdef object _described(self, int kind, bytearray buffer, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef bint _withhold(self, bytearray buffer, Py_ssize_t at)
    cdef bint _piece(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef bint _answer_due(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end)
    cdef object _pass_on(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end, bint pieces)
    cpdef bytes ready_for(self, Session session)
    cdef bint _parameter_status(self, bytes body, bint ours)
    cdef object _command_complete(self, bytearray buffer, Py_ssize_t at, Py_ssize_t end)
    cpdef object reads_anew(self, Session session)
    cdef object _alters(self, bytes tag)
    cdef bint _error(self, bytes body, bint ours)
