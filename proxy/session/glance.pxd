cdef unsigned int _temporary
cdef unsigned int _into
cdef unsigned int _insert
cdef unsigned int _merge
cdef unsigned long long *_calls
cdef unsigned long long *_opens
cdef unsigned int *_hashes

cpdef bint glance(bytearray buffer, Py_ssize_t start, Py_ssize_t end, bint backslashes, int wide=*)
cdef bint look(unsigned char *p, Py_ssize_t at, Py_ssize_t end, bint backslashes) noexcept
cdef bint matters(unsigned char *p, Py_ssize_t at, Py_ssize_t stop, bint first) noexcept
cdef bint _inserts(unsigned char *p, Py_ssize_t begin, Py_ssize_t at, Py_ssize_t stop) noexcept
cdef bint _listed(unsigned int total) noexcept
cdef unsigned int _hashed(unsigned char *p, Py_ssize_t at, Py_ssize_t stop) noexcept
