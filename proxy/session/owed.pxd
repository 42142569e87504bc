cdef enum:
    QUERY = 81
    FUNCTION = 70
    SYNC = 83
    PARSE = 80
    BIND = 66
    DESCRIBE = 68
    EXECUTE = 69
    CLOSE = 67
    PARSE_AGAIN = 120
    TELLING = 116
    OUR_QUERY = 113
    OUR_PARSE = 112
    OUR_CLOSE = 99
    OUR_DESCRIBE = 100
    OUR_SYNC = 115
    OUR_BIND = 98
    OUR_EXECUTE = 101
    OUR_READING = 114
    ANSWER_PARSE = 49
    ANSWER_CLOSE = 51
    COPY_END = 75

cdef class Owed:
    cdef readonly bytearray queue
    cdef readonly Py_ssize_t head
    cdef readonly Py_ssize_t tail
    cdef readonly int ready
    cdef readonly bint unsynced
    cdef readonly bint skipping
    cdef readonly bint copying
    cdef readonly bint sync_in_copy
    cdef public bint lost
    cdef readonly bint doubtful
    cdef readonly bint recounting
    cdef bint told
    cdef public int failed
    cdef public bint passed_over
    cdef public bint unsettled
    cdef public bint emptying
    cdef readonly bint asking
    cdef readonly object notes
    cdef readonly list undone
    cpdef void push(self, int code)
    cpdef void push_noted(self, int code, object note)
    cdef bint _in_copy(self, int code) noexcept
    cpdef void end_copy(self)
    cdef void _make_room(self)
    cpdef int answer(self, int kind)
    cdef int _unowed(self, int kind) noexcept
    cdef bint _ends(self, int code, int kind) noexcept
    cdef bint _ends_ready(self, int code) noexcept
    cdef int _ready(self, int code)
    cdef int _recount(self, int kind)
    cdef void _pop(self)
    cdef bint _noted(self, int code) noexcept
    cdef bint _between(self, int code) noexcept
    cdef void _drop_note(self, int code)
    cdef int _error(self, int code)
    cdef void _skip(self)
    cdef void _copy_in(self)
    cdef void _count_unsynced(self)
    cpdef int due(self)
    cpdef bint synced(self) noexcept
    cpdef bint ends(self) noexcept
    cpdef bint ours(self) noexcept
    cpdef Py_ssize_t cycles(self) noexcept
    cpdef bint between(self) noexcept
    cpdef bint runs(self) noexcept
    cpdef bint settled(self) noexcept
    cpdef bint awaits_ready(self) noexcept
    cpdef bint looks(self) noexcept
    cpdef bint reads(self) noexcept
    cpdef bint recounts(self)
    cpdef bint nothing(self) noexcept
