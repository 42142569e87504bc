cimport cython


# Fifteen bounds: as many as BOUNDS in counters.py, which a test compares.
cdef class Histogram:
    cdef double[15] _bounds
    cdef long long[16] _counts
    cdef double _sum

    @cython.locals(i=cython.int)
    cpdef void observe(self, double seconds) noexcept


cdef class PoolCounters:
    cdef public long long transactions
    cdef public long long queries
    cdef public long long bytes_received
    cdef public long long bytes_sent
    cdef public long long server_logins
    cdef public long long server_login_failures
    cdef public long long client_parses
    cdef public long long server_parses
    cdef public long long binds
    cdef public long long waits
    cdef public double query_time
    cdef readonly Histogram borrow_wait
    cdef readonly Histogram transaction_time
    cdef readonly object pins
    cdef readonly object pinned
    cdef readonly dict pin_time
    cdef readonly object leaks
