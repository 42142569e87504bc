cdef Py_ssize_t RX_SIZE
cdef bytearray RX

cdef class Link:
    cdef public object loop
    cdef public int fd
    cdef public object tls
    cdef public bytearray held
    cdef public bytearray out
    cdef public bint reading
    cdef public bint broken
    cpdef object consume(self, bytearray buffer, Py_ssize_t n)
    cpdef object on_lost(self)
    cpdef object on_blocked(self)
    cpdef object on_drained(self)
    cpdef object on_violation(self, object error)
    cpdef object watch(self)
    cpdef object pause(self)
    cdef object _read_plain(self)
    cdef Py_ssize_t _unhold(self)
    cdef object _read_large(self)
    cdef object _consume_large(self, Py_ssize_t n)
    cdef object _read_tls(self)
    cdef Py_ssize_t _feed_tls(self)
    cdef bint _read_decrypted(self)
    cpdef object transmit(self, bytearray buffer, Py_ssize_t at, Py_ssize_t end)
    cpdef object send(self, bytes message)
    cdef object _flush_tls(self)
    cdef object _short(self, bytearray buffer, Py_ssize_t at, Py_ssize_t end, Py_ssize_t n)
    cdef object _break(self)
    cpdef object finish_sending(self)
    cpdef int surrender(self)
    cpdef object hang_up(self)
