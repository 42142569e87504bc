"""What a text means for the session of the client that sends it.

Told from the text alone, so it says what *may* come about: a false alarm costs a question to the
server, which is believed. Nothing is told of what ends with the transaction (SET LOCAL,
SET TRANSACTION, transaction-level locks), nor of what a function or a prepared statement does
whose text is elsewhere.
"""

from __future__ import annotations

import cython

from proxy.session.findings import NOTHING, Verdict

if cython.compiled:
    from cython.cimports.proxy.session.findings import Findings
    from cython.cimports.proxy.session.reading import Reading
    from cython.cimports.proxy.session.tokens import Statements
else:
    from proxy.session.findings import Findings
    from proxy.session.reading import Reading
    from proxy.session.tokens import Statements

_LONGEST_RESET = 1000
# The text alone where it is read as usual.
_Key = bytes | tuple[bytes, bool, int]


@cython.final
@cython.cclass
class Verdicts:
    """Verdicts kept by text, in two generations: what is not asked for in a while is forgotten.

    All texts kept are of at most `limit` bytes, what is kept with each counted as `OVERHEAD`; a
    text of more than `longest` bytes is read anew each time.
    """

    OVERHEAD = 400
    _young: dict[_Key, Verdict]
    _old: dict[_Key, Verdict]

    def __init__(
        self, limit: cython.Py_ssize_t = 4 << 20, longest: cython.Py_ssize_t = 16 << 10
    ) -> None:
        self.limit = limit
        self.longest = longest
        self._young = {}
        self._old = {}
        self._size = 0

    def of(self, text: bytes, backslashes: cython.bint = False, wide: cython.int = 0) -> Verdict:
        """The verdict on the text of a Query or Parse.

        `backslashes`: standard_conforming_strings is off; `wide`: `proxy.session.lexer.width` of
        its client_encoding.
        """
        key: _Key = (text, backslashes, wide) if backslashes or wide else text
        known = self._young.get(key)
        if known is not None:
            return known
        known = self._old.pop(key, None) or read(text, backslashes, wide)
        if len(text) <= self.longest:
            self._keep(key, len(text) + Verdicts.OVERHEAD, known)
        return known

    def _keep(self, key: _Key, size: cython.Py_ssize_t, known: Verdict) -> None:
        if self._size + size > self.limit // 2:
            self._young, self._old = {}, self._young
            self._size = 0
        self._young[key] = known
        self._size += size

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


verdict = Verdicts().of


def read(
    text: bytes,
    backslashes: cython.bint = False,
    wide: cython.int = 0,
    body: cython.bint = False,
) -> Verdict:
    """The verdict on a text, worked out; `body`: it is PL/pgSQL."""
    found: Findings = Findings.__new__(Findings)
    statements: Statements = Statements.__new__(Statements)
    reading: Reading = Reading.__new__(Reading)
    found.begin()
    statements.read(text, backslashes, wide, body)
    reading.run(statements, found, 0)
    whole_reset: cython.bint = (
        reading.resets > 0 and reading.resets == statements.many and len(text) <= _LONGEST_RESET
    )
    return found.verdict(whole_reset)


__all__ = ["NOTHING", "Verdict", "Verdicts", "read", "verdict"]
