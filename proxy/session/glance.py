# cython: boundscheck=False, wraparound=False
"""One look at a statement: may it concern the session at all? Most do not.

A text has to be read in full (`proxy.session.verdict`) when one of its statements begins with a
word of `COMMANDS`, or when an identifier of `WORDS` stands anywhere outside of comments and
constants. A false alarm costs a reading, which is kept; a miss would cost the client's session.
"""

from __future__ import annotations

from array import array
from functools import reduce

import cython

from proxy.session.lexer import masked

if cython.compiled:
    from cython.cimports.cpython.array import array as carray
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.proxy.session.lexer import (
        IN_WORD,
        KIND,
        LOWER_P,
        MARK,
        QUOTED,
        SEMICOLON,
        SPACE,
        UNICODE,
        WORD,
        classes,
        step,
    )
else:
    from proxy.session.lexer import (
        IN_WORD,
        KIND,
        LOWER_P,
        MARK,
        QUOTED,
        SEMICOLON,
        SPACE,
        UNICODE,
        WORD,
        classes,
        step,
    )

COMMANDS = """
    call close create deallocate declare discard do drop execute explain listen load prepare reset
    set unlisten
""".split()  # noqa: SIM905
LOCKS = [
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
]
UNLOCKS = ["pg_advisory_unlock", "pg_advisory_unlock_all", "pg_advisory_unlock_shared"]
# Functions that run SQL from a string, or read whatever there is.
RUNNERS = """
    connectby crosstab crosstab2 crosstab3 crosstab4 database_to_xml
    database_to_xml_and_xmlschema query_to_xml query_to_xml_and_xmlschema query_to_xmlschema
    schema_to_xml schema_to_xml_and_xmlschema table_to_xml table_to_xml_and_xmlschema ts_rewrite
    ts_stat xpath_table
""".split()  # noqa: SIM905
# Functions that begin what lives in the server's process; those that make a replication slot do so
# where it is temporary.
BEGINNERS = """
    dblink_connect dblink_connect_u isn_weak pg_backup_start pg_replication_origin_session_setup
    pg_start_backup sepgsql_setcon
""".split()  # noqa: SIM905
SLOT_MAKERS = """
    pg_copy_logical_replication_slot pg_copy_physical_replication_slot
    pg_create_logical_replication_slot pg_create_physical_replication_slot
""".split()  # noqa: SIM905
OTHERS = ["currval", "lastval", "set_config", "set_limit", "setseed"]
INTO = "into"
"""Makes a table in SELECT INTO, not in INSERT INTO or MERGE INTO."""
FUNCTIONS = [*LOCKS, *UNLOCKS, *RUNNERS, *BEGINNERS, *SLOT_MAKERS, *OTHERS]
WORDS = [*FUNCTIONS, INTO, "pg_settings", "temp", "temporary"]

_SLOTS = 256


def _hash(word: bytes) -> int:
    """As `_hashed`, letters in lower case."""
    return reduce(lambda total, code: (total * 31 + (code | 32)) & 0x7FFFFFFF, word, 0)


def _slots(words: list[str]) -> list[int]:
    """An open hash table: a word's hash stands in the slot it names or behind it."""
    slots = [0] * _SLOTS
    for word in words:
        value = _hash(word.encode())
        slot = value % _SLOTS
        while slots[slot]:
            slot = (slot + 1) % _SLOTS
        slots[slot] = value
    return slots


def _lengths(words: list[str]) -> list[int]:
    """Of each first byte a mask of the lengths (bit n: n bytes) that the words have."""
    masks = [0] * 256
    bit: cython.ulonglong = 1
    for word in words:
        for letter in (word[0], word[0].upper()):
            masks[ord(letter)] |= bit << len(word)
    return masks


CALLS = array("Q", _lengths(WORDS))
OPENS = array("Q", _lengths([*WORDS, *COMMANDS]))
HASHES = array("I", _slots([*WORDS, *COMMANDS]))

# A server's own schema for temporary objects is pg_temp_3 or the like: its beginning tells it.
_temporary = _hash(b"pg_temp")
_into, _insert, _merge = _hash(INTO.encode()), _hash(b"insert"), _hash(b"merge")
if cython.compiled:
    _calls = cython.cast(carray, CALLS).data.as_ulonglongs
    _opens = cython.cast(carray, OPENS).data.as_ulonglongs
    _hashes = cython.cast(carray, HASHES).data.as_uints
else:
    _calls, _opens, _hashes = CALLS, OPENS, HASHES


@cython.ccall
def glance(
    buffer: bytearray,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    backslashes: cython.bint,
    wide: cython.int = 0,
) -> cython.bint:
    """Whether buffer[start:end], the text of a Query or Parse, may concern the session.

    `backslashes`: standard_conforming_strings is off; `wide`: see `proxy.session.lexer.width`.
    """
    if wide:
        buffer = bytearray(masked(bytes(buffer[start:end]), wide))
        start, end = 0, len(buffer)
    p: cython.p_uchar
    if cython.compiled:  # noqa: SIM108
        p = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(buffer))
    else:
        p = buffer
    return look(p, start, end, backslashes)


def look(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, backslashes: cython.bint
) -> cython.bint:
    table: cython.p_uchar = classes()
    first: cython.bint = True
    begin: cython.Py_ssize_t = at
    stop: cython.Py_ssize_t
    while at < end:
        kind: cython.int = table[p[at]] & KIND
        if kind == SPACE:
            at += 1
            continue
        if kind == MARK:
            first = p[at] == SEMICOLON
            at += 1
            continue
        if kind == WORD:
            stop = at + 1
            while stop < end and table[p[stop]] & IN_WORD:
                stop += 1
            if stop - at > 1:
                if matters(p, at, stop, first) and not _inserts(p, begin, at, stop):
                    return True
                first = False
                at = stop
                continue
        stop = step(p, at, end, backslashes)
        kind = stop & KIND
        stop >>= 3
        if kind == UNICODE or (kind == QUOTED and matters(p, at + 1, stop - 1, False)):
            return True
        first = first and kind == SPACE
        at = stop
    return False


def matters(
    p: cython.p_uchar, at: cython.Py_ssize_t, stop: cython.Py_ssize_t, first: cython.bint
) -> cython.bint:
    """Whether p[at:stop] may be one of the words; of the commands too when it comes `first`."""
    size: cython.Py_ssize_t = stop - at
    if size < 2:
        return False
    code: cython.uint = p[at]
    lengths: cython.ulonglong = _opens[code] if first else _calls[code]
    if size < 64 and lengths >> size & 1 and _listed(_hashed(p, at, stop)):
        return True
    return code | 32 == LOWER_P and size >= 7 and _hashed(p, at, at + 7) == _temporary


def _inserts(
    p: cython.p_uchar, begin: cython.Py_ssize_t, at: cython.Py_ssize_t, stop: cython.Py_ssize_t
) -> cython.bint:
    """Whether p[at:stop] is an INTO right behind INSERT or MERGE; the text begins at `begin`."""
    if stop - at != 4 or _hashed(p, at, stop) != _into:
        return False
    table: cython.p_uchar = classes()
    while at > begin and table[p[at - 1]] & KIND == SPACE:
        at -= 1
    stop = at
    while at > begin and table[p[at - 1]] & IN_WORD:
        at -= 1
    word: cython.uint = _hashed(p, at, stop)
    return word == _insert or word == _merge


def _listed(total: cython.uint) -> cython.bint:
    slot: cython.uint = total % 256
    while _hashes[slot]:
        if _hashes[slot] == total:
            return True
        slot = (slot + 1) % 256
    return False


def _hashed(p: cython.p_uchar, at: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.uint:
    total: cython.uint = 0
    while at < stop:
        total = (total * 31 + (p[at] | 32)) & 0x7FFFFFFF
        at += 1
    return total
