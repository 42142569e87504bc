from proxy.relay.fitting cimport Fitting

cdef class Asking(Fitting):
    cdef readonly Py_ssize_t remaining
    cdef object asked
    cdef dict back
    cdef object _part(self)
    cdef object _exchange(self)
    cdef object _counted(self)
    cdef object _looked(self, int what, object error)
    cdef object _ask(self)
    cdef object _answered(self, object error)
    cdef object _has_left(self)
    cdef object _known(self)
    cdef object _go_on_known(self)
    cdef object _believe(self, object answer)
    cdef object _has_first(self)
    cdef object _have_gone(self, int had)
    cdef object _goes_on(self)
    cdef object _ask_readings(self)
    cdef object _read(self, int what, object error)
    cdef object _restore(self)
    cdef object _restored(self, int what, object error)
