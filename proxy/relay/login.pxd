from proxy.auth.conversation cimport Conversation, Done
from proxy.relay.client cimport Client
from proxy.relay.wish cimport Wish

cdef class Login:
    cdef readonly Client _client
    cdef object _hub
    cdef int _step
    cdef object _way
    cdef bint _direct
    cdef Conversation _conversation
    cdef readonly str user
    cdef readonly str database
    cdef readonly str reason
    cdef public bytes said
    cdef readonly Wish wish
    cpdef object feed(self, bytearray buffer, Py_ssize_t n)
    cdef Py_ssize_t _take(self, bytearray buffer, Py_ssize_t n)
    cdef Py_ssize_t _first_packet(self, bytearray buffer, Py_ssize_t n)
    cdef object _start(self, Wish wish)
    cdef object _begin(self)
    cdef object _ask(self, object secret)
    cdef Py_ssize_t _password(self, bytearray buffer, Py_ssize_t n)
    cdef object _respond(self, bytes payload)
    cdef object _advance(self, object step)
    cdef object _done(self, Done done)
    cdef Py_ssize_t _too_early(self, Py_ssize_t n)
