from proxy.session.findings cimport Findings
from proxy.session.tokens cimport Arguments, Statements, Tokens
from proxy.session.words cimport Words

cdef Words _WORDS
cdef Words _CALLS
cdef Words _CONSTANTS

cdef class Calls:
    cdef readonly Statements tokens
    cdef readonly Findings found
    cdef Arguments arguments
    cdef readonly int resets
    cdef int left
    cdef Py_ssize_t updated
    cdef int temporarily
    cdef bint drops
    cdef bint paths
    cdef bint hinted
    cdef object begin(self, Statements tokens, Findings found)
    cdef object notice(self)
    cdef object notice_name(self, str name)
    cdef bint creates(self) noexcept
    cdef object unreadable(self)
    cdef object put_back(self, int what)
    cdef bint selected(self) noexcept
    cdef Arguments its_arguments(self)
    cdef object leads(self, str name)
    cdef object temporary_path(self)
    cdef object set_locally(self, str name, bint sets, bint resets)
