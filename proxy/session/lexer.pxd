cdef enum:
    SPACE = 1
    WORD = 2
    QUOTED = 3
    UNICODE = 4
    STRING = 5
    NUMBER = 6
    MARK = 7
    KIND = 7
    IN_WORD = 8
    IN_TAG = 16
    TAB = 9
    LINE = 10
    RETURN = 13
    DOUBLE = 34
    DOLLAR = 36
    AMPERSAND = 38
    SINGLE = 39
    OPEN = 40
    SHUT = 41
    STAR = 42
    PLUS = 43
    MINUS = 45
    DOT = 46
    SLASH = 47
    SEMICOLON = 59
    BACKSLASH = 92
    LOWER_B = 98
    LOWER_E = 101
    LOWER_P = 112
    LOWER_U = 117
    LOWER_X = 120

cdef unsigned char *_classes
cdef unsigned char *classes() noexcept
cdef Py_ssize_t step(unsigned char *p, Py_ssize_t at, Py_ssize_t end, bint backslashes) noexcept
cdef Py_ssize_t _word(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef Py_ssize_t _number(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef Py_ssize_t _find(unsigned char *p, Py_ssize_t at, Py_ssize_t end, int code) noexcept
cdef Py_ssize_t _string(unsigned char *p, Py_ssize_t at, Py_ssize_t end, bint escapes) noexcept
cdef Py_ssize_t _quote(unsigned char *p, Py_ssize_t at, Py_ssize_t end, bint escapes) noexcept
cdef Py_ssize_t _continued(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef Py_ssize_t _identifier(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef Py_ssize_t _dollar(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef Py_ssize_t _dollar_quote(unsigned char *p, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t end) noexcept
cdef Py_ssize_t _line(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef Py_ssize_t _comment(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef bint _same(unsigned char *p, Py_ssize_t at, Py_ssize_t other, Py_ssize_t size) noexcept
cdef Py_ssize_t _closer(unsigned char *p, Py_ssize_t at, Py_ssize_t end, bint backslashes) noexcept
cdef Py_ssize_t _digits(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
cdef Py_ssize_t _bits(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
