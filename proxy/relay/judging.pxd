from proxy.relay.borrowing cimport Borrowing
from proxy.session.statement cimport Statement

cdef unsigned int _FIRST_OF_USERS
cdef Py_ssize_t _MAX_RECALLED

cdef class Judging(Borrowing):
    cdef bytes portal
    cdef Py_ssize_t heard
    cdef Py_ssize_t _query(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef void _forget_unnamed(self)
    cdef bytes _refusal(self, object said)
    cdef Py_ssize_t _calls(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef bint _has_failed(self)
    cdef bint _stands_alone(self, bytearray buffer, Py_ssize_t at)
    cdef bytes _end_alone(self)
    cdef Py_ssize_t _makes_temporary(self, bytes text, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef bint _runs_now(self, bytearray buffer, Py_ssize_t at)
    cdef int _sequences(self)
    cdef Py_ssize_t _names(self, object said, bytes text, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef Py_ssize_t _may(self, object said, bytes text, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef Py_ssize_t _replan(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef Py_ssize_t _ahead(self, bytes ahead, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef object _judge_again(self, Statement statement)
    cdef object _judge(self, bytearray buffer, Py_ssize_t at, Py_ssize_t stop)
    cdef Py_ssize_t _query_of(self, object said, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end)
