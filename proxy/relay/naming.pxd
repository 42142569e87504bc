from proxy.relay.judging cimport Judging
from proxy.session.statement cimport Statement

cdef enum:
    MAX_KEPT = 16777216

cdef Py_ssize_t _longest_name

cdef class Naming(Judging):
    cdef bytes last_name
    cdef Statement bound
    cdef bint doubted
    cdef bint _is_news(self)
    cdef object _describe_portal(self, bytes name)
    cdef Py_ssize_t _prepared(self, int kind, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef Py_ssize_t _incomplete(self, Py_ssize_t at, Py_ssize_t end)
    cdef Py_ssize_t _bind(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef Py_ssize_t _named(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t name, Py_ssize_t stop, Py_ssize_t end, Py_ssize_t n)
    cdef object _run_on(self, bytearray buffer, Py_ssize_t at)
    cdef bint _runs_bound(self, bytearray buffer, Py_ssize_t at)
    cdef object _used_behind(self, Statement statement)
    cdef Py_ssize_t _describe(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t name, Py_ssize_t stop, Py_ssize_t end, Py_ssize_t n)
    cdef bytes _own(self, bytearray buffer, Py_ssize_t name, Py_ssize_t stop)
    cdef Statement _statement_at(self, bytearray buffer, Py_ssize_t name, Py_ssize_t stop)
    cdef Py_ssize_t _ask_shape(self, Statement statement, bint newcomer, bytearray buffer, Py_ssize_t run, Py_ssize_t at)
    cdef Py_ssize_t _uses(self, Statement statement, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef Py_ssize_t _uses_bare(self, bytes name, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef Py_ssize_t _parse(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef Py_ssize_t _parse_named(self, bytes name, bytes tail, object said, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t end)
    cdef object _parse_unnamed(self, object said, bytearray buffer, Py_ssize_t at, Py_ssize_t end)
    cdef Py_ssize_t _parse_large(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t stop)
    cdef Py_ssize_t _close_name(self, bytearray buffer, Py_ssize_t run, Py_ssize_t at, Py_ssize_t name, Py_ssize_t stop, Py_ssize_t end)
    cdef object _answer(self)
