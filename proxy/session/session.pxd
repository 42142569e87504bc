from proxy.session.doubting cimport Doubting

cdef class Session(Doubting):
    pass
