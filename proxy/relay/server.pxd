from proxy.relay.resting cimport Resting

cdef class Server(Resting):
    cdef readonly int process_id
    cdef readonly bytes secret
    cdef public bint shared
    cdef public double expires_at
    cdef public int number
    cpdef object abandon(self, bint mid_message, bint orderly)
    cdef object _finish_for_client(self)
    cpdef object cancel_begins(self)
    cpdef object cancel_ended(self)
    cpdef object end(self)
