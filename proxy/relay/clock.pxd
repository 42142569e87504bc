cdef double now()
