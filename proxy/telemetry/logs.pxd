cpdef object log_opened(object logger, object side, long long number, str database, str user, str peer)
cpdef object log_closed(object logger, object side, long long number, object reason, str database, str user, str peer, double age_s)
cdef bint _connection(object logger, object side, long long number, str database, str user, str peer, str said)
