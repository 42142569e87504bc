from proxy.relay.borrower cimport Borrower
from proxy.relay.database cimport Database
from proxy.relay.server cimport Server
from proxy.session.parameters cimport Parameters
from proxy.wire.octets cimport Pieces

cdef Pieces PIECES

cdef enum:
    TRANSACTION = 0
    SESSION = 1
    STATEMENT = 2

cdef enum:
    STAYS = 0
    LEAVES = 1
    DISMISSED = 2

cdef enum:
    NOTHING = 0
    CHECKING = 1
    SETTING = 2
    PREPARING = 3
    ASKING = 4
    RESTORING = 5
    RESTORED = 6
    LOOKING = 7
    LOOKING_BACK = 8
    READING = 9

cdef class Borrowing(Borrower):
    cdef public Server server
    cdef readonly object hub
    cdef readonly long long number
    cdef public Database pool
    cdef public object login
    cdef public int mode
    cdef public int simple
    cdef readonly Py_ssize_t remaining
    cdef public bint keeps
    cdef public int leaving
    cdef object goodbye
    cdef public bint waiting
    cdef readonly int ahead
    cdef readonly bint greeting
    cdef bint resting
    cdef int retries
    cdef public int pinned_for
    cdef public double opened_at
    cdef readonly double waiting_since
    cdef readonly double lent_at
    cdef readonly double begun_at
    cdef double asked_at
    cdef readonly double active_at
    cdef public bytes key
    cdef public object address
    cdef public object tunnel
    cdef public str user
    cdef Parameters had
    cdef public bint recalls
    cdef readonly object recalled
    cdef dict lacked
    cdef dict instead
    cdef object _relay(self, bytearray buffer, Py_ssize_t n)
    cpdef object close(self, object reason, object error=*)
    cpdef bint at_rest(self)
    cdef bint _borrow(self)
    cpdef object be_replicated(self)
    cpdef object be_greeted(self)
    cdef object _wait(self, bint front)
    cdef bint _have(self, Server server, double moment)
    cdef bint _set_up(self, Server server, double moment, bint wait)
    cdef bint _set(self, Server server, bint wait)
    cdef Parameters _wanted(self)
    cdef bint _prepare_on(self, object queries)
    cdef bint _run_ahead(self, int what, object queries)
    cdef object _failed(self, Server server, int what, object error)
    cdef object _not_set(self, Server server, object error)
    cdef object _have_another(self)
    cdef object _retry(self, Server server, object error, int most)
    cdef object _resume(self)
    cpdef object hear_early(self)
    cdef object _looked(self, int what, object error)
    cdef object _go_on(self)
    cpdef bint at_boundary(self)
    cpdef bint silent(self, double moment)
    cpdef object dismiss(self, object reason, object error)
    cdef object _see_off(self)
    cdef object _part(self)
    cdef object _stir(self)
    cdef object _give_back(self)
    cdef object _ask(self)
    cdef object _answered(self, object error)
    cdef object _known(self)
    cdef object _goes_on(self, object told)
    cdef bytes _told(self, object values)
    cdef object _ask_readings(self)
    cdef object _read(self, object error)
    cdef object _restore(self)
    cdef object _restored(self, int what, object error)
