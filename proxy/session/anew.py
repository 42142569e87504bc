# cython: boundscheck=False, wraparound=False
"""Messages that prepare a statement where it is not, read as it was at its Parse.

What is said for that is `proxy.session.reread`'s; here is when, and what a server then owes.
"""

from __future__ import annotations

from typing import Any

import cython

from proxy.session.reread import FORGET, TELL, way
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.session.owed import (
        OUR_BIND,
        OUR_CLOSE,
        OUR_EXECUTE,
        OUR_PARSE,
        OUR_READING,
        Owed,
    )
    from cython.cimports.proxy.session.session import Session
    from cython.cimports.proxy.session.statement import Statement
else:
    from proxy.session.owed import (
        OUR_BIND,
        OUR_CLOSE,
        OUR_EXECUTE,
        OUR_PARSE,
        OUR_READING,
        Owed,
    )
    from proxy.session.session import Session
    from proxy.session.statement import Statement

OURS = 2
"""The kind of a note that undoes nothing at a client (see `proxy.session.prepared`)."""
NOTHING_TO_UNDO = (OURS, None, None, None, None)


@cython.cfunc
def prepare(
    session: Session, statement: Statement, name: bytes, tail: bytes, note: Any, owed: Owed
) -> bytes:
    """Messages that prepare it under that name, with the parameter types in `tail`; `note` undoes
    it."""
    there: bytes = b""
    back: bytes = b""
    if session.keeps_reading(statement):
        there, back = way(statement.meaning, session.reads_under())
    if there:
        session.mask()
        _go(OUR_EXECUTE, NOTHING_TO_UNDO, owed)
    else:
        there = tell(session, statement, owed)
    owed.push_noted(OUR_PARSE, note)
    if back:
        _go(OUR_EXECUTE, NOTHING_TO_UNDO, owed)
    sent: bytes = there + messages.parse(name, tail) + back
    return sent


@cython.cfunc
def tell(session: Session, statement: Statement, owed: Owed) -> bytes:
    """Messages that have the server tell what it reads the Parse behind them under, where
    nobody else can."""
    if statement.meaning is not None or not session.clouded() or not statement.has_constants():
        return b""
    _go(OUR_READING, (OURS, None, None, None, statement), owed)
    return TELL


@cython.cfunc
def forget(owed: Owed) -> bytes:
    """DISCARD PLANS, to send within what a client sends."""
    _go(OUR_EXECUTE, NOTHING_TO_UNDO, owed)
    return FORGET


@cython.cfunc
def _go(code: cython.int, note: Any, owed: Owed) -> cython.void:
    """A query of `proxy.session.reread`; `code`: of its Execute."""
    owed.push_noted(OUR_CLOSE, NOTHING_TO_UNDO)
    owed.push_noted(OUR_PARSE, NOTHING_TO_UNDO)
    owed.push(OUR_BIND)
    if code == OUR_READING:
        owed.push_noted(code, note)
    else:
        owed.push(code)
    owed.push_noted(OUR_CLOSE, NOTHING_TO_UNDO)
    owed.push_noted(OUR_CLOSE, NOTHING_TO_UNDO)
