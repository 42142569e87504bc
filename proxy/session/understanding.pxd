from proxy.session.doubting cimport Doubting
from proxy.session.statement cimport Statement

cdef int _temp

cdef class Understanding(Doubting):
    cdef public bint stirred
    cdef public bytes elsewhere
    cdef public bint strays
    cpdef object run_on(self)
    cpdef bint prepares_late(self, Statement statement, bint named)
    cpdef object lead(self, bytes text)
    cpdef object may_lead_back(self)
    cdef public bint made
    cdef public bint tempted
    cdef public bint settled
    cpdef object reads_now(self, Statement statement)
    cpdef bint apart(self)
    cpdef bint clouded(self)
    cdef bint _asks_of(self, object names)
    cpdef object reads_under(self)
    cpdef bint reads_otherwise(self, Statement statement)
    cpdef bint reads_alike(self, Statement statement)
    cpdef bint keeps(self, Statement statement)
    cdef bint _looks_up_anew(self, object then)
    cpdef bint keeps_reading(self, Statement statement)
