from proxy.relay.database cimport Database
from proxy.relay.server cimport Borrower, Server
from proxy.session.session cimport Statement
from proxy.wire.octets cimport Pieces

cdef Pieces _PIECES

cdef enum:
    NOTHING = 0
    CHECKING = 1
    SETTING = 2
    PREPARING = 3
    ASKING = 4
    RESTORING = 5
    RESTORED = 6

cdef class Client(Borrower):
    cdef readonly object hub
    cdef readonly long long number
    cdef public Database pool
    cdef public object login
    cdef public int mode
    cdef readonly Py_ssize_t remaining
    cdef public bint keeps
    cdef readonly bint leaving
    cdef public bint waiting
    cdef readonly int ahead
    cdef readonly bint greeting
    cdef readonly bint in_transaction
    cdef int retries
    cdef public int pinned_for
    cdef public double opened_at
    cdef readonly double waiting_since
    cdef readonly double lent_at
    cdef readonly double active_at
    cdef public int process_id
    cdef public bytes secret
    cdef public object address
    cdef public str user
    cdef object had
    cdef object _hold(self, bytearray buffer, Py_ssize_t at, Py_ssize_t n)
    cdef object _relay(self, bytearray buffer, Py_ssize_t n)
    cdef bint _awaited(self, int kind, Py_ssize_t size)
    cdef object _send_on(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end)
    cdef Py_ssize_t _query(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef object _check_kind(self, int kind)
    cdef object _violated(self, bytearray buffer, Py_ssize_t run, Py_ssize_t end, str said)
    cdef void _forget_unnamed(self)
    cdef bint _other(self, int kind)
    cdef bint _alone(self, int kind)
    cdef bint _borrow(self)
    cpdef object be_greeted(self)
    cpdef object hear_early(self)
    cdef object _wait(self, bint front)
    cdef bint _have(self, Server server, double moment)
    cdef bint _set_up(self, Server server, double moment)
    cdef bint _set(self, Server server, bint wait)
    cdef bint _run_ahead(self, int what, object queries)
    cpdef bint at_rest(self)
    cdef object _part(self)
    cdef bytes _refusal(self, object said)
    cdef int _sequences(self)
    cdef Py_ssize_t _may(self, object said, bytes text, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef object _ask(self)
    cdef object _answered(self, object error)
    cdef object _known(self)
    cdef bytes _told(self, object values)
    cdef object _restore(self)
    cdef object _restored(self, int what, object error)
    cdef object _goes_on(self, object told)
    cdef Py_ssize_t _names(self, object said, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef Py_ssize_t _uses(self, Statement statement, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end)
    cdef object _judge(self, bytearray buffer, Py_ssize_t at, Py_ssize_t end)
    cdef object _retry(self, Server server, object error)
    cdef object _resume(self)
    cdef object _give_back(self)
    cdef Py_ssize_t _prepared(self, int kind, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef Py_ssize_t _incomplete(self, Py_ssize_t at, Py_ssize_t end)
    cdef Py_ssize_t _bind(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef Py_ssize_t _named(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t name, Py_ssize_t stop, Py_ssize_t end)
    cdef Py_ssize_t _ahead(self, bytes ahead, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef Py_ssize_t _parse(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef object _parse_unnamed(self, object said, bytearray buffer, Py_ssize_t at, Py_ssize_t end)
    cdef Py_ssize_t _parse_large(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t stop)
    cdef Py_ssize_t _close_name(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t name, Py_ssize_t stop, Py_ssize_t end)
    cdef object _answer(self)
    cdef object _leave(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cpdef object close(self, object reason, object error=*)
