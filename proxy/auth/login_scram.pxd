from proxy.auth.conversation cimport Conversation, Done, Next
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
    cdef Next _chosen(self, bytes payload)
    cdef Next _first(self, bytes message)
    cdef Done _verdict(self, bytes message, ScramKeys keys)
