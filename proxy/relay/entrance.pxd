from proxy.relay.client cimport Client
from proxy.relay.database cimport Database
from proxy.relay.login cimport Login
from proxy.relay.wish cimport Wish

cdef class Place:
    cdef readonly Database pool
    cdef int mode
    cdef bint recalls
    cdef tuple known
    cdef object parameters
    cdef bytes greeting
    cdef tuple most

cdef class Entrance:
    cdef object _funnel
    cdef object _watch
    cdef readonly object settings
    cdef readonly object gate
    cdef readonly object lookups
    cdef readonly object client_tls
    cdef readonly object users
    cdef readonly object ignored_parameters
    cdef readonly object keys
    cdef readonly object random
    cdef readonly object totals
    cdef readonly dict wishes
    cdef dict _places
    cdef readonly set clients
    cdef readonly dict logging_in
    cdef public object console
    cdef readonly set at_console
    cdef dict _by_key
    cdef int _peer_id
    cdef Py_ssize_t _most_logging_in
    cdef Py_ssize_t _most_clients
    cdef bint _add_host
    cdef bint _log_opened
    cdef bint _log_closed
    cdef bint _log_refusals
    cdef bint _extended_only
    cdef bytes _ready
    cpdef bint has_room(self)
    cpdef object accepted(self, int fd, object peer, long long number)
    cpdef object admit(self, str database)
    cpdef object logged_in(self, Client client, Login login)
    cdef Place _place_of(self, Wish wish)
    cpdef object greet(self, Client client)
    cdef object _greet(self, Client client, Login login, Place place)
    cpdef object welcome(self, Client client, Wish wish, bytes said)
    cdef bytes _new_key(self, Client client)
    cpdef object gone(self, Client client, object reason, object error)
    cpdef object log_refused(self, Client client, object error)
