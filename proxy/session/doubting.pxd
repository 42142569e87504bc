from proxy.session.named cimport Named
from proxy.session.statement cimport Statement

cdef enum:
    SURE = 0x40000000
    DEFINES = 0x20000000
    NAMES = 0x10000000
    OWN_NAMES = 0x8000000

cdef class Doubting(Named):
    cdef public int holds
    cdef public int asks
    cdef readonly object doubt
    cdef public object texts
    cdef public object routines
    cdef public object begins
    cdef readonly object above
    cdef public bint withholds
    cdef readonly bint withholds_next
    cdef readonly bint reads
    cdef readonly object leaves
    cdef public tuple leaving
    cdef public dict failing
    cpdef bint withhold(self)
    cdef object _will_withhold(self, object verdict)
    cdef object _note(self, object verdict, bytes text, object policy, object reported)
    cpdef bint leads_back(self, object verdict)
    cpdef object leave(self, object verdict)
    cpdef object has_left(self)
    cpdef object wonder(self, str name, object own)
    cpdef object settle(self, int ignored)
    cpdef bint hides(self, bytes name, bytes value, bint last)
    cpdef object touch(self, object verdict, bytes text, object policy, object reported, bint alone)
    cpdef object ask_all(self, object routines)
    cpdef object unsure(self)
    cpdef bint sure(self)
    cdef object _touch_parameters(self, object verdict, object words, object reported)
    cdef object _forget_doubt(self)
