from proxy.session.words cimport Words

cdef enum:
    LONGEST_WORD = 63
    LONGEST_CALL = 32
    COMMA = 44
    COLON = 58
    UNDERSCORE = 95
    NEXT = 0
    ANYWHERE = 1
    WITHIN = 2

cdef unsigned char *_classes
cdef Py_ssize_t _longest_name
cdef Words _NOTHING

cdef class Tokens:
    cdef readonly bytes text
    cdef readonly bytes raw
    cdef unsigned char *p
    cdef readonly bint backslashes
    cdef readonly int wide
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t stop
    cdef readonly int kind
    cdef readonly Py_ssize_t last
    cdef Py_ssize_t end
    cdef object _open(self, bytes raw, bytes text, bint backslashes, int wide)
    cdef Tokens ahead(self)
    cpdef bint advance(self) noexcept
    cdef bint over(self) noexcept
    cdef bint ends(self) noexcept
    cdef bint called(self) noexcept
    cdef bint plain(self) noexcept
    cdef int mark(self) noexcept
    cdef bint says(self, bytes word) noexcept
    cdef bint assigned(self) noexcept
    cdef bint follows(self, bytes word) noexcept
    cdef bint begins(self, bytes word) noexcept
    cdef bint names_temporary(self) noexcept
    cdef object of(self, Words words)
    cdef bint run_to(self, Words words) noexcept
    cdef void past_parentheses(self) noexcept
    cpdef str name(self)
    cdef bytes literal(self)
    cdef str _escape(self)
    cdef bint _is_at(self, Py_ssize_t at, bytes word) noexcept

cdef class Arguments(Tokens):
    cdef readonly int many
    cdef readonly int size
    cdef readonly bint done
    cdef readonly bint simple
    cdef readonly bint bound
    cdef object behind(self, Tokens name)
    cdef object next(self, Words words)

cdef class Statements(Tokens):
    cdef readonly bint body
    cdef readonly bint first
    cdef readonly Py_ssize_t begun
    cdef readonly Py_ssize_t place
    cdef readonly Py_ssize_t many
    cdef Py_ssize_t _last_start
    cdef Py_ssize_t _earlier_start
    cdef bint _follows
    cdef object read(self, bytes raw, bint backslashes, int wide, bint body)
    cpdef bint advance(self) noexcept
    cdef bint seek(self) noexcept
    cdef bint skim(self) noexcept
    cdef bint _run(self, int where) noexcept
    cdef void jump(self, Arguments call) noexcept
    cdef bint before(self, bytes word) noexcept
    cdef bint earlier(self, bytes word) noexcept
    cdef bint opened(self, bytes word) noexcept

cdef bytes _undollared(bytes quoted)
