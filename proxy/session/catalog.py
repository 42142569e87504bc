"""What a database's own functions, triggers and views may do to a session that uses them.

Their bodies are in the catalogs of Postgres, so a server is asked for them: a `look` is a
conversation of one or three queries, and what it finds is `Routines`. Who calls whom is told by
names alone, so a false alarm is possible; it costs a question at a boundary. Source of every
column: PostgreSQL documentation, "System Catalogs".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass

from proxy.conditions import ANYTHING
from proxy.session.findings import NOTHING, Verdict
from proxy.session.glance import FUNCTIONS
from proxy.session.inquiry import read_text, text_column
from proxy.session.routines import Routines, joined
from proxy.session.tokens import Tokens
from proxy.session.verdict import read

Rows = list[list[bytes | None]]
Look = Generator[bytes, Rows, "Catalog"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """What was seen when the catalogs were in the state of `fingerprint`; no routines: harmless.

    `keeps_plans`: there are functions whose plans live as long as the server.
    """

    fingerprint: str = ""
    routines: Routines | None = None
    keeps_plans: bool = False


UNSEEN = Catalog()
_OPAQUE = Verdict(makes=ANYTHING, clears=ANYTHING, everything=True, opaque=True)


def look(known: Catalog) -> Look:
    """Yields queries and wants their rows; returns `known` itself when nothing has changed.

    Raises ValueError when rows say nothing of what was asked.
    """
    ((state, keeping),) = yield _unhurried(FINGERPRINT)
    fingerprint, keeps_plans = read_text(state) or "", keeping is not None
    if fingerprint == known.fingerprint:
        return known
    sources = [[read_text(column) for column in row] for row in (yield _unhurried(SOURCES))]
    found = _first(sources)
    if not found:
        return Catalog(fingerprint, None, keeps_plans)
    uses = {(read_text(a) or "", read_text(b) or "") for a, b in (yield _unhurried(USES))}
    _spread(found, [*uses, *_calls(sources)])
    routines = Routines(found)
    same = known.routines is not None and known.routines.by_name == found
    return Catalog(fingerprint, known.routines if same else routines, keeps_plans)


_HARMLESS = (b"TABLE", b"TABLE AS", b"INDEX", b"SEQUENCE", b"TYPE", b"SCHEMA", b"ROLE", b"DATABASE")


def changes_routines(tag: bytes) -> bool:
    """Whether a command of this tag may give a name another meaning for sessions.

    CREATE TABLE and the like are harmless as long as nothing else changes, DROP takes away only.
    """
    verb, _, what = tag.partition(b" ")
    return verb == b"ALTER" or (verb == b"CREATE" and what not in _HARMLESS)


# -- what is found ---------------------------------------------------------------------------


def _first(sources: Iterable[list[str | None]]) -> dict[str, Verdict]:
    """By name, what changes a session by its own text."""
    found: dict[str, Verdict] = {}
    for name, language, text in sources:
        said = body(language or "", text)
        if name is not None and said is not NOTHING:
            found[name] = joined([found.get(name, NOTHING), said])
    return found


_CUSTOM = re.compile(r"'([A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)+)'", re.ASCII)


def body(language: str, text: str | None) -> Verdict:
    """What a function's body may do; None for one that is too long to be had."""
    if text is None or language not in ("sql", "plpgsql"):
        return _OPAQUE
    said = read(text.encode(), body=language == "plpgsql")
    if not said.everything:
        return said
    # An application's own parameters are in no catalogue: what looks like one is asked for.
    own = tuple(name.lower() for name in _CUSTOM.findall(text))
    return joined([said, Verdict(names=own)])


def _calls(sources: Iterable[list[str | None]]) -> Iterable[tuple[str, str]]:
    """Whose text has which names in it."""
    for user, _, text in sources:
        tokens = Tokens((text or "").encode())
        while tokens.advance():
            name = tokens.name()
            if name is not None and user is not None:
                yield user, name


def _spread(found: dict[str, Verdict], uses: Iterable[tuple[str, str]]) -> None:
    """Whoever uses what changes a session changes it, too."""
    users = defaultdict(set)
    for user, used in uses:
        if user != used:
            users[used].add(user)
    due = list(found)
    while due:
        used = due.pop()
        for user in users[used]:
            before = found.get(user, NOTHING)
            after = joined([before, found[used]])
            if after != before:
                found[user] = after
                due.append(user)


def _unhurried(query: bytes) -> bytes:
    """The query, whatever time limits and kinds of transactions the session has by default."""
    return b"SET LOCAL statement_timeout=0;SET TRANSACTION ISOLATION LEVEL READ COMMITTED;" + query


# -- what is asked ---------------------------------------------------------------------------

_EQ = "OPERATOR(pg_catalog.=)"
_OWN = "OPERATOR(pg_catalog.>=) 16384"
"""Behind an oid: not one of Postgres's own objects (FirstNormalObjectId)."""
_LONGEST = 30_000
"""Bytes of a body that is read; in hexadecimal it fits into what is received at once."""

_CASCADES = (
    f"contype {_EQ} 'f' AND (confdeltype {_EQ} ANY('{{c,n,d}}') OR confupdtype {_EQ}"
    " ANY('{c,n,d}'))"
)


def _state(catalog: str, key: str, condition: str = "true") -> str:
    rows = f"pg_catalog.string_agg(pg_catalog.concat({key},':',xmin),',' ORDER BY {key})"
    return f"(SELECT {rows} FROM pg_catalog.{catalog} WHERE {key} {_OWN} AND {condition})"


_STATES = (
    _state("pg_proc", "oid"),
    _state("pg_rewrite", "oid"),
    _state("pg_trigger", "oid"),
    _state("pg_policy", "oid"),
    _state("pg_attrdef", "oid"),
    _state("pg_inherits", "inhrelid"),
    _state("pg_constraint", "oid", _CASCADES),
)
_ALL_STATES = f"pg_catalog.md5(pg_catalog.concat_ws(';',{','.join(_STATES)}))"
_KEEPS_PLANS = (
    f"(SELECT pg_catalog.min(proname::pg_catalog.text) FROM pg_catalog.pg_proc WHERE oid {_OWN}"
    " AND prolang OPERATOR(pg_catalog.<>) ALL(SELECT oid FROM pg_catalog.pg_language"
    f" WHERE lanname {_EQ} ANY('{{c,internal,sql}}')))"
)
FINGERPRINT = f"SELECT {text_column(_ALL_STATES)},{text_column(_KEEPS_PLANS)}".encode()

_DIRECT = ",".join(FUNCTIONS)
_SOURCE = f"CASE WHEN prosrc {_EQ} '' THEN pg_catalog.pg_get_functiondef(oid) ELSE prosrc END"
_ROUTINES = (
    f"SELECT proname,(SELECT lanname FROM pg_catalog.pg_language l WHERE l.oid {_EQ} prolang),"
    f"{_SOURCE} FROM pg_catalog.pg_proc WHERE oid {_OWN} AND prokind {_EQ} ANY('{{f,p}}')"
    f" AND prolang OPERATOR(pg_catalog.<>) ALL(SELECT oid FROM pg_catalog.pg_language"
    f" WHERE lanname {_EQ} ANY('{{c,internal}}'))"
)
# Of what a view calls only functions of a user's own are noted as dependencies.
_CALLED = "pg_catalog.strpos(r.ev_action::pg_catalog.text,pg_catalog.concat(':funcid ',p.oid,' '))"
_VIEWS = (
    "SELECT c.relname,'sql',pg_catalog.pg_get_viewdef(c.oid)"
    " FROM pg_catalog.pg_rewrite r, pg_catalog.pg_class c, pg_catalog.pg_proc p"
    f" WHERE r.oid {_OWN} AND c.oid {_EQ} r.ev_class AND p.proname {_EQ} ANY('{{{_DIRECT}}}')"
    f" AND {_CALLED} OPERATOR(pg_catalog.>) 0"
)
_BODY = (
    f"CASE WHEN pg_catalog.octet_length(body) OPERATOR(pg_catalog.<=) {_LONGEST} THEN"
    f" {text_column('body')} END"
)
SOURCES = (
    f"SELECT {text_column('name')},{text_column('language')},{_BODY}"
    f" FROM ({_ROUTINES} UNION ALL {_VIEWS}) s(name,language,body)"
).encode()


def _owner(catalog: str, relation: str) -> str:
    """Names of relations whose part (a rule, a trigger, ...) depends on something."""
    return (
        f"SELECT c.relname,d.refclassid,d.refobjid FROM pg_catalog.pg_depend d,"
        f" pg_catalog.{catalog} o, pg_catalog.pg_class c WHERE d.classid {_EQ}"
        f" 'pg_catalog.{catalog}'::pg_catalog.regclass AND o.oid {_EQ} d.objid"
        f" AND c.oid {_EQ} o.{relation} AND d.refobjid {_OWN}"
    )


_PROCEDURES = (
    "SELECT p.proname,d.refclassid,d.refobjid FROM pg_catalog.pg_depend d, pg_catalog.pg_proc p"
    f" WHERE d.classid {_EQ} 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid {_EQ} d.objid"
    f" AND d.refobjid {_OWN}"
)


def _reached(catalog: str, source: str, other: str, condition: str = "true") -> str:
    """Names of relations from which a change goes on to other relations."""
    return (
        f"SELECT c.relname,'pg_catalog.pg_class'::pg_catalog.regclass,o.{other}"
        f" FROM pg_catalog.{catalog} o, pg_catalog.pg_class c WHERE c.oid {_EQ} o.{source}"
        f" AND {condition}"
    )


_OWNERS = (
    _owner("pg_rewrite", "ev_class"),
    _owner("pg_trigger", "tgrelid"),
    _owner("pg_policy", "polrelid"),
    _owner("pg_attrdef", "adrelid"),
    _owner("pg_constraint", "conrelid"),
    _PROCEDURES,
    _reached("pg_inherits", "inhparent", "inhrelid"),
    _reached("pg_constraint", "confrelid", "conrelid", _CASCADES),
)


def _used(catalog: str, name: str) -> str:
    return (
        f"SELECT u.name,o.{name} FROM ({' UNION ALL '.join(_OWNERS)}) u(name,kind,oid),"
        f" pg_catalog.{catalog} o WHERE u.kind {_EQ} 'pg_catalog.{catalog}'::pg_catalog.regclass"
        f" AND o.oid {_EQ} u.oid"
    )


USES = (
    f"SELECT {text_column('u.name')},{text_column('u.used')} FROM"
    f" ({_used('pg_proc', 'proname')} UNION {_used('pg_class', 'relname')}) u(name,used)"
).encode()
