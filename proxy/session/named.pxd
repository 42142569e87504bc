from proxy.session.knowing cimport Knowing
from proxy.session.statement cimport Statement

cdef class Named(Knowing):
    cdef public dict names
    cdef public dict bare
    cdef public Statement unnamed
    cdef public Statement forgotten
    cdef readonly object bound
    cpdef object ask(self, int conditions)
    cpdef bint is_bare(self, bytes name)
    cpdef object lay_bare(self, bytes name, Statement statement)
    cpdef object is_not(self, bytes name, Statement statement)
    cpdef object dress(self, bytes name, Statement statement)
    cpdef list may_be(self, bytes name)
