cpdef object log_opened(object logger, long long number, str database, str user, str peer, str tls, str replication)
cpdef object log_closed(object logger, object side, long long number, object reason, str database, str user, str peer, double age_s, str told)
cdef bint _connection(object logger, object side, long long number, str database, str user, str peer, str said)
