from proxy.telemetry.counters cimport PoolCounters

cdef class Pool:
    cdef readonly str database
    cdef readonly str user
    cdef readonly object size
    cdef readonly Py_ssize_t most
    cdef readonly Py_ssize_t most_waiters
    cdef readonly bint round_robin
    cdef public tuple bounds
    cdef readonly object backoff
    cdef readonly PoolCounters counters
    cdef readonly list idle
    cdef readonly object waiters
    cdef object _join
    cdef object _first
    cdef readonly set servers
    cdef readonly set closing
    cdef readonly int opening
    cdef public int clients
    cdef public bint paused
    cpdef object borrow(self)
    cpdef object release(self, object server)
    cpdef bint full(self)
    cpdef object wait(self, object client, bint front=*)
