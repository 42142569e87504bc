from proxy.session.calls cimport Calls
from proxy.session.findings cimport Findings, Piece
from proxy.session.tokens cimport Statements, Tokens
from proxy.session.words cimport Words

cdef Words _COMMANDS
cdef Words _CLAUSES
cdef Words _SPECIAL
cdef Words _MODES
cdef Words _DISCARDS
cdef Words _RESET_WORDS

cdef class Reading(Calls):
    cdef int depth
    cdef Piece pending
    cdef bint local
    cdef object run(self, Statements tokens, Findings found, int depth)
    cdef object statement(self, object command)
    cdef str parameter(self)
    cdef str dotted(self, str name)
    cdef object put(self, str name, bint resets)
    cdef bint to_default(self) noexcept
    cdef object named_piece(self, str verb, Tokens tokens)
    cdef object piece(self, str verb, str name, Py_ssize_t start, Py_ssize_t stop)
    cdef object create_from(self, Tokens ahead)
    cdef object on_commit(self, Tokens ahead)
    cdef object as_execute(self, Tokens ahead)
    cdef bint is_plpgsql(self)
    cdef object body(self, bytes text)
