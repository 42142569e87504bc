from proxy.session.parameters cimport Parameters

cdef class Knowing:
    cdef public Parameters startup
    cdef readonly Parameters parameters
    cdef readonly dict defaults
    cdef dict told
    cdef public dict by_default
    cdef public str path
    cdef readonly bint backslashes
    cdef readonly int wide
    cdef readonly int watches
    cpdef object follow(self, Parameters parameters)
    cpdef bint began_with(self, str name)
    cpdef object heard(self, bytes name, bytes value)
    cdef bytes _heard(self, bytes name)
    cdef bytes _now(self, bytes name)
