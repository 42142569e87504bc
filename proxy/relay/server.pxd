from proxy.relay.database cimport Database
from proxy.relay.link cimport Link
from proxy.session.owed cimport Owed
from proxy.session.parameters cimport Parameters
from proxy.session.prepared cimport Shelf
from proxy.session.session cimport Session
from proxy.wire.octets cimport Pieces

cdef Pieces _PIECES

cdef class Borrower(Link):
    cdef public Session session
    cdef public Server server
    cdef public bint settling
    cpdef object on_settled(self)
    cpdef object on_boundary(self)
    cpdef object on_copy_in(self)
    cpdef object on_in_transaction(self)
    cpdef object on_prepared(self, object error)
    cpdef object on_server_lost(self, object error)
    cpdef object take(self, Server server)

cdef class Server(Link):
    cdef readonly Database pool
    cdef readonly object hub
    cdef readonly int process_id
    cdef readonly bytes secret
    cdef readonly Owed owed
    cdef readonly Shelf shelf
    cdef public Parameters parameters
    cdef public long long last
    cdef public bint shared
    cdef bint auditing
    cdef object looking
    cdef long long changes
    cdef readonly dict reported
    cdef readonly dict defaults
    cdef public Borrower client
    cdef public str state
    cdef public int status
    cdef readonly Py_ssize_t remaining
    cdef readonly bint dropping
    cdef readonly int cancels
    cdef readonly bint cancelled
    cdef readonly bint farewell
    cdef readonly bint waited_for
    cdef readonly list cleanings
    cdef readonly object error
    cdef public list errors
    cdef bytes instead
    cdef bytes types
    cdef bint altered
    cdef bint alters_routines
    cdef public list rows
    cdef public double opened_at
    cdef public double idle_since
    cdef public double expires_at
    cdef public double deadline
    cdef public double cancel_again
    cdef public object reason
    cdef public int number
    cdef bint _seen_whole(self, int kind)
    cdef bint _account(self, int kind, bytearray buffer, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef object _described(self, int kind, bytearray buffer, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef bint _withhold(self)
    cdef bint _piece(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef bint _answer_due(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end)
    cdef object _pass_on(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end, bint pieces)
    cdef object _parameter_status(self, bytes body, bint ours)
    cdef object _command_complete(self, bytearray buffer, Py_ssize_t at, Py_ssize_t end)
    cdef bint _error(self, bytes body, bint ours)
    cdef bytes _own_words(self, object fields, list undone)
    cdef object _let_go_on(self)
    cdef object _after_ready(self)
    cpdef bint knows(self, str name)
    cpdef object knows_as(self, str name)
    cpdef object to_clean(self, int conditions)
    cpdef object to_reset(self, bytes sql)
    cpdef object run(self, bytes sql)
    cpdef bytes query_ahead(self, bytes sql)
    cpdef object free(self)
    cpdef bytes look(self)
    cpdef bytes looked(self, object error)
    cdef object _audit(self)
    cdef object _audited(self)
    cdef object _to_pool(self)
    cdef object _rest(self)
    cdef object _clean(self)
    cpdef object abandon(self, bint mid_message, bint orderly)
    cdef object _finish_for_client(self)
    cpdef object cancel_begins(self)
    cpdef object cancel_ended(self)
    cpdef object close(self, object reason)
    cpdef object end(self)
