from proxy.auth.conversation cimport Conversation
from proxy.auth.keys cimport KeyCache, KeyRequest, ScramKeys
from proxy.auth.scram cimport ScramServer

cdef class ScramConversation(Conversation):
    cdef ScramKeys _known
    cdef KeyRequest _own
    cdef KeyCache _cache
    cdef bytes _binding
    cdef object _random
    cdef ScramServer _server
    cdef bint _started
    cdef bytes _final
    cdef ScramKeys _keys(self)
    cdef object _chosen(self, bytes payload)
    cdef object _first(self, bytes message)
    cdef object _verdict(self, bytes message, ScramKeys keys)
