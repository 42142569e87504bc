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
    COUNTING = 10
    LIFTING = 11
    UNREAD = 12

cdef class Fitting(Borrower):
    cdef readonly object hub
    cdef readonly long long number
    cdef public Server server
    cdef public Database pool
    cdef public int mode
    cdef public bint keeps
    cdef readonly int ahead
    cdef readonly bint greeting
    cdef int retries
    cdef int cancelled
    cdef readonly double lent_at
    cdef Parameters had
    cdef dict lacked
    cdef dict instead
    cdef object _resume(self)
    cdef object _retry(self, Server server, object error, int most)
    cdef bint _suit(self, Server server, double moment, bint wait)
    cdef bint _again(self)
    cdef bint _lift(self, Server server)
    cdef object _lifted(self, Server server, object error)
    cpdef object close(self, object reason, object error=*)
    cdef bint _set_up(self, Server server, double moment, bint wait)
    cdef bint _set(self, Server server, bint wait)
    cdef bytes _beneath(self, Parameters want)
    cdef object _make_known(self, Server server)
    cdef object _hear(self)
    cdef Parameters _wanted(self)
    cdef bint _prepare_on(self, object queries)
    cdef bint _run_ahead(self, int what, object queries)
    cdef object _go_on(self)
    cdef object _failed(self, Server server, int what, object error)
    cdef object _not_set(self, Server server, object error)
