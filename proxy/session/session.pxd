from proxy.session.understanding cimport Understanding

cdef class Session(Understanding):
    pass
