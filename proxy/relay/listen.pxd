from proxy.relay.entrance cimport Entrance

cdef class Listener:
    cdef object _loop
    cdef Entrance _entrance
    cdef list _sockets
    cdef long long _accepted
    cdef bint _owned
