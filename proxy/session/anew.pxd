from proxy.session.owed cimport Owed
from proxy.session.session cimport Session
from proxy.session.statement cimport Statement

cdef bytes prepare(Session session, Statement statement, bytes name, bytes tail, object note, Owed owed)
cdef bytes tell(Session session, Statement statement, Owed owed)
cdef bytes forget(Owed owed)
cdef void _go(int code, object note, Owed owed)
