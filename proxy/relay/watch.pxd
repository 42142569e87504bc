cdef int _IN
cdef int _OUT

cdef class Watch:
    cdef object _loop
    cdef object _epoll
    cdef int _epoll_fd
    cdef list _readers
    cdef dict _writers
    cpdef object add_reader(self, int fd, object ready)
    cpdef object remove_reader(self, int fd)
    cpdef object add_writer(self, int fd, object ready)
    cpdef object remove_writer(self, int fd)
    cdef object _change(self, int fd, bint known)
    cdef object _serve(self, int fd, int events)
    cdef object _tell(self, object ready)
