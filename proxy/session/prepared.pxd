from proxy.session.owed cimport Owed
from proxy.session.results cimport Results
from proxy.session.session cimport Session
from proxy.session.statement cimport Statement

cdef class Shelf(Results):
    cdef readonly int limit
    cdef readonly long long clock
    cdef readonly long long group
    cpdef void boundary(self)
    cpdef bint lacks(self, int there)
    cpdef void discard_plans(self)
    cpdef void deallocate_all(self, object session, Owed owed)
    cpdef void passed_over(self, object session)
    cpdef bytes need(self, Session session, Statement statement, Owed owed)
    cdef bytes _need(self, Session session, Statement statement, bytes tail, Owed owed)
    cpdef void read(self, object note, object row)
    cpdef Statement reading(self, Session session, bytes name, Statement statement, bint certain)
    cpdef bytes ask(self, Session session, Statement statement, bint newcomer, Owed owed)
    cpdef bytes copy(self, Session session, bytes name, Statement statement, bint drops, Owed owed)
    cdef bytes _room(self, Owed owed)
    cdef bytes _close(self, Statement statement, Owed owed)
    cpdef Statement read_now(self, Session session, bytes tail, object verdict, bint asked=*)
    cpdef bytes parse(self, Session session, bytes name, Statement statement, Owed owed, bint known_good)
    cpdef bytes forget(self, Owed owed)
    cpdef bytes parse_bare(self, Session session, bytes name, bytes tail, object verdict, Owed owed)
    cdef void _touch(self, Statement statement)
    cpdef bytes parse_again(self, Session session, bytes name, Statement before, bytes tail, Owed owed)
    cpdef void parse_unnamed(self, Session session, object tail, object verdict, Owed owed)
    cpdef bytes need_unnamed(self, Session session, Owed owed)
    cpdef void close(self, Session session, bytes name, Owed owed)
    cpdef void undo(self, object session, list notes, bint failed_parse)
    cdef void _undo_here(self, int kind, object statement)
    cdef void _undo_there(self, Session session, int kind, object name, object before, object there, bint refused)
