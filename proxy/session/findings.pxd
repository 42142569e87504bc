cdef set _ODD

cdef class Piece:
    cdef readonly str verb
    cdef readonly str name
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t end
    cdef readonly Py_ssize_t name_start
    cdef readonly Py_ssize_t name_end

cdef class Verdict:
    cdef readonly int makes
    cdef readonly int clears
    cdef readonly tuple names
    cdef readonly tuple resets
    cdef readonly bint everything
    cdef readonly tuple prepared
    cdef readonly int does
    cdef readonly bint whole_reset
    cdef readonly bint opaque
    cdef readonly int unseen
    cdef readonly bint defines
    cdef readonly tuple leaves
    cdef readonly tuple locally
    cdef readonly bint elsewhere
    cpdef bint only_leaves(self)
    cpdef bint stirs(self)
    cpdef bint leads_elsewhere(self)

cdef class Findings:
    cdef list names
    cdef list resets
    cdef list leaves
    cdef list locally
    cdef bint alike
    cdef list prepared
    cdef int makes
    cdef int clears
    cdef int does
    cdef bint everything
    cdef bint opaque
    cdef bint defines
    cdef bint elsewhere
    cdef object make(self, int conditions)
    cdef object clear(self, int conditions)
    cdef object begin(self)
    cdef object change(self, str name, bint sets, bint resets)
    cdef object change_odd(self, str name, bint sets, bint resets)
    cdef object change_parameter(self, str name, bint sets, bint resets)
    cdef object leave(self, str name)
    cdef object lead_back(self, str name)
    cdef object prepare(self, Piece piece)
    cdef object unknown(self)
    cdef object anything(self)
    cdef object put_back(self, int what)
    cdef object create(self)
    cdef object create_temporary(self, bint stays)
    cdef object define(self)
    cdef Verdict verdict(self, bint whole_reset)
