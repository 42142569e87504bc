"""What a database's own functions, triggers and views may do to a session that uses them.

Their bodies are in the catalogs of Postgres, so a server is asked for them: a `look` is a
conversation of a few queries, and what it finds is `Routines`; with them it tells what sessions
begin with (`proxy.session.beginnings`). Who calls whom is told by names alone, so a false alarm is
possible; it costs a question at a boundary. Source of every column: PostgreSQL documentation,
"System Catalogs".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace

from proxy.conditions import ANYTHING
from proxy.session.beginnings import BEGINS, GIVEN, Rows, begins, former
from proxy.session.commands import defining
from proxy.session.findings import NOTHING, Verdict
from proxy.session.glance import FUNCTIONS
from proxy.session.inquiry import EQ, read_text, text_column, unhurried
from proxy.session.parameters import TOLD, USUAL_PATH
from proxy.session.routines import ANY_TEXT, Routines, joined
from proxy.session.tokens import Tokens
from proxy.session.verdict import read

Look = Generator[bytes, Rows, "Catalog"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """What was seen when the catalogs were in the state of `fingerprint`; no routines: harmless.

    `keeps_plans`: there are functions whose plans live as long as the server;
    `temporary`: objects that a session makes are temporary unless it says otherwise;
    `sets`: who logs in may call set_config, as everybody may unless that was revoked;
    `begins`: parameters that a session begins with, by ALTER ROLE or ALTER DATABASE; `path`: its
    search_path; `former`: of those that it began with otherwise when they were last seen, what they
    were.
    """

    fingerprint: str = ""
    routines: Routines | None = None
    keeps_plans: bool = False
    temporary: bool = False
    sets: bool = True
    begins: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: str = USUAL_PATH
    former: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


UNSEEN = Catalog()
_ODD = "surrogateescape"
"""What becomes of bytes that are no UTF-8, in a database that does not know its encoding."""
_DEFINES = Verdict(defines=True)
_OPAQUE = Verdict(makes=ANYTHING, clears=ANYTHING, everything=True, opaque=True)


def look(known: Catalog, *, elder: bool = True) -> Look:
    """Yields queries and wants their rows, or to be thrown a ValueError with what Postgres says.

    Returns `known` itself when nothing has changed.

    `elder`: the server that tells may have been opened before what it sees came about. Raises
    ValueError when rows say nothing of what was asked.
    """
    ((state, keeping, temporary, sets, given, path),) = yield unhurried(FINGERPRINT)
    now = begins(read_text(given))
    seen = Catalog(
        read_text(state) or "",
        keeps_plans=keeping == b"t",
        temporary=temporary == b"t",
        sets=sets == b"t",
        begins=now,
        path=now.get("search_path", read_text(path) or USUAL_PATH),
    )
    if seen == replace(known, routines=None):
        return known
    if now != known.begins and known is not UNSEEN:
        seen = replace(seen, former=(yield from former(known.begins, now, elder=elder)))
        if replace(seen, begins=known.begins, path=known.path) == replace(known, routines=None):
            return replace(seen, routines=known.routines)
    sources = [[read_text(column, _ODD) for column in row] for row in (yield unhurried(SOURCES))]
    found = _first(sources)
    if not found:
        return seen
    rows = yield unhurried(USES)
    uses = {(read_text(user, _ODD) or "", read_text(used, _ODD) or "") for user, used in rows}
    _spread(found, [*uses, *_calls(sources)])
    routines = Routines(found)
    same = known.routines is not None and known.routines.by_name == found
    return replace(seen, routines=known.routines if same else routines)


STATEMENTS, ROUTINES, BEGINNINGS = 1, 2, 3
"""What DDL outdates: what is known of statements; of functions and the like, too; and of what
sessions begin with."""

_HARMLESS = (b"TABLE", b"TABLE AS", b"INDEX", b"SEQUENCE", b"TYPE", b"ROLE", b"DATABASE")


def outdates(tag: bytes) -> int:
    """What a command of this tag may outdate, with all that comes before it.

    CREATE TABLE and the like give no name another meaning for sessions unless their text says
    otherwise (`Verdict.defines`), DROP takes away only. COMMIT PREPARED does what nobody knows.
    """
    verb, _, what = tag.partition(b" ")
    if tag in (b"ALTER ROLE", b"ALTER DATABASE", b"COMMIT PREPARED"):
        return BEGINNINGS
    return (
        ROUTINES
        if verb == b"ALTER" or (verb == b"CREATE" and what not in _HARMLESS)
        else STATEMENTS
    )


# -- what is found ---------------------------------------------------------------------------


def _first(sources: Iterable[list[str | None]]) -> dict[str, Verdict]:
    """By name, what changes a session by its own text."""
    found: dict[str, Verdict] = {}
    for name, language, text in sources:
        said = body(language or "", text)
        if name is not None and (
            said.locally or not said.only_leaves() or said.moves(TOLD.__contains__)
        ):
            found[name] = joined([found.get(name, NOTHING), said])
    return found


_CUSTOM = re.compile(r"'([A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)+)'", re.ASCII)


def body(language: str, text: str | None) -> Verdict:
    """What a function's body may do; None for one that is too long to be had."""
    if text is None or language not in ("sql", "plpgsql"):
        return _OPAQUE
    octets = text.encode("utf-8", _ODD)
    said = read(octets, body=language == "plpgsql")
    if defining(octets):
        said = joined([said, _DEFINES])
    if not said.everything:
        return said
    # An application's own parameters are in no catalogue: what looks like one is asked for.
    own = tuple(name.lower() for name in _CUSTOM.findall(text))
    return joined([said, Verdict(names=own)])


def _calls(sources: Iterable[list[str | None]]) -> Iterable[tuple[str, str]]:
    """Whose text has which names in it."""
    for user, _, text in sources:
        tokens = Tokens((text or "").encode("utf-8", _ODD))
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


# -- what is asked ---------------------------------------------------------------------------

_OWN = "OPERATOR(pg_catalog.>=) 16384"
"""Behind an oid: not one of Postgres's own objects (FirstNormalObjectId)."""
_LONGEST = 30_000
"""Bytes of a body that is read; in hexadecimal it fits into what is received at once."""

_CASCADES = f"contype {EQ} 'f'"
"""Whatever ON DELETE and ON UPDATE say: TRUNCATE ... CASCADE goes along all of them."""


def _state(catalog: str, key: str, condition: str = "true", version: str = "xmin") -> str:
    rows = f"pg_catalog.string_agg(pg_catalog.concat({key},':',{version}),',' ORDER BY {key})"
    return f"(SELECT {rows} FROM pg_catalog.{catalog} WHERE {key} {_OWN} AND {condition})"


# Functions that these stand for are called where no name need stand.
_IMPLYING = {"pg_operator": "oprcode", "pg_cast": "castfunc", "pg_amproc": "amproc"}

_HOLDS = f"{EQ} ANY('{{d,m,r}}')"
"""Behind a type's kind: a domain, which has checks, or a range, which may be one of a domain."""
# What has columns of such a type, or of arrays of it.
_OF_DOMAINS = (
    f"t.oid {_OWN} AND t.typtype {_HOLDS} AND d.refobjid {EQ} ANY(ARRAY[t.oid,t.typarray])"
    f" AND d.refclassid {EQ} 'pg_catalog.pg_type'::pg_catalog.regclass"
)
_DOMAINS = (
    "(SELECT pg_catalog.string_agg(d.objid::pg_catalog.text,',' ORDER BY d.objid)"
    f" FROM pg_catalog.pg_type t,pg_catalog.pg_depend d WHERE {_OF_DOMAINS})"
)
# Relations are told by their names, which an ALTER TABLE may have changed.
_NAMED = (
    "(relhasrules OR relhastriggers OR relhassubclass OR relispartition OR relrowsecurity"
    f" OR relkind {EQ} 'p' OR relchecks OPERATOR(pg_catalog.>) 0"
    f" OR oid {EQ} ANY(SELECT adrelid FROM pg_catalog.pg_attrdef)"
    f" OR oid {EQ} ANY(SELECT indrelid FROM pg_catalog.pg_index"
    " WHERE indexprs IS NOT NULL OR indpred IS NOT NULL)"
    f" OR oid {EQ} ANY(SELECT d.objid FROM pg_catalog.pg_type t,pg_catalog.pg_depend d"
    f" WHERE {_OF_DOMAINS}))"
)
_STATES = (
    _state("pg_proc", "oid"),
    _state("pg_rewrite", "oid"),
    _state("pg_trigger", "oid"),
    _state("pg_event_trigger", "oid"),
    _state("pg_policy", "oid"),
    _state("pg_attrdef", "oid"),
    _state("pg_inherits", "inhrelid"),
    _state("pg_constraint", "oid", f"contype {EQ} ANY('{{c,f}}')"),
    _state("pg_index", "indexrelid", "(indexprs IS NOT NULL OR indpred IS NOT NULL)"),
    _state("pg_partitioned_table", "partrelid", "partexprs IS NOT NULL"),
    _state("pg_type", "oid", f"typtype {_HOLDS}"),
    *(_state(catalog, "oid") for catalog in _IMPLYING),
    _DOMAINS,
    _state("pg_class", "oid", _NAMED, "relname"),
)
_KEEPS_PLANS = (
    f"EXISTS(SELECT FROM pg_catalog.pg_proc WHERE oid {_OWN}"
    " AND prolang OPERATOR(pg_catalog.<>) ALL(SELECT oid FROM pg_catalog.pg_language"
    f" WHERE lanname {EQ} ANY('{{c,internal,sql}}')))"
)

# Objects are made in the first schema that exists (PostgreSQL documentation, "search_path").
_FIRST = '^search_path=("([$]user)?" *, *)*"?pg_temp(_[0-9]+)?"? *(,|$)'
_LEADS = f"OPERATOR(pg_catalog.~*) '{_FIRST}'"
_PATH = f"SELECT reset_val FROM pg_catalog.pg_settings WHERE name {EQ} 'search_path'"
_DEFAULT_PATHS = f"SELECT pg_catalog.concat('search_path=',({_PATH})) UNION ALL {GIVEN}"
"""What search_path is by default, on this server and on those that log in from now on."""
_TEMPORARY = f"EXISTS(SELECT FROM ({_DEFAULT_PATHS}) p(path) WHERE path {_LEADS})"
_SETS = (
    "(SELECT pg_catalog.has_function_privilege(usesysid,"
    "'pg_catalog.set_config(pg_catalog.text,pg_catalog.text,pg_catalog.bool)','EXECUTE')"
    " FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()))"
)
_ALL_STATES = f"pg_catalog.md5(pg_catalog.concat_ws(';',{','.join(_STATES)}))"
FINGERPRINT = (
    f"SELECT {text_column(_ALL_STATES)},{_KEEPS_PLANS},{_TEMPORARY},{_SETS},{text_column(BEGINS)},"
    f"{text_column(f'({_PATH})')}"
).encode()


_SOURCE = f"CASE WHEN prosrc {EQ} '' THEN pg_catalog.pg_get_functiondef(oid) ELSE prosrc END"
_ROUTINES = (
    f"SELECT proname,(SELECT lanname FROM pg_catalog.pg_language l WHERE l.oid {EQ} prolang),"
    f"{_SOURCE} FROM pg_catalog.pg_proc WHERE oid {_OWN} AND prokind {EQ} ANY('{{f,p}}')"
    f" AND prolang OPERATOR(pg_catalog.<>) ALL(SELECT oid FROM pg_catalog.pg_language"
    f" WHERE lanname {EQ} ANY('{{c,internal}}'))"
)
_PATHS = (
    "SELECT proname,'sql','CREATE TEMP TABLE t ()' FROM pg_catalog.pg_proc"
    f" WHERE oid {_OWN} AND EXISTS(SELECT FROM pg_catalog.unnest(proconfig) p(path)"
    f" WHERE path {_LEADS})"
)
# Of what an expression calls only functions of a user's own are noted as dependencies.
_DIRECT = (
    "(SELECT pg_catalog.concat(':(?:relid ','pg_catalog.pg_settings'::pg_catalog.regclass::"
    "pg_catalog.oid,'|funcid (?:',pg_catalog.string_agg(oid::pg_catalog.text,'|'),')) ')"
    f" FROM pg_catalog.pg_proc WHERE proname {EQ} ANY('{{{','.join(FUNCTIONS)}}}'))"
)


def _expression(catalog: str, owner: str, tree: str, definition: str) -> str:
    """Names of relations (or domains) of which an expression calls what changes sessions.

    The words in front of it keep its definition from being read as a command.
    """
    of, name = ("pg_type", "typname") if owner == "contypid" else ("pg_class", "relname")
    return (
        f"SELECT c.{name},'sql',pg_catalog.concat({definition}) FROM pg_catalog.{catalog} o,"
        f" pg_catalog.{of} c WHERE o.oid {_OWN} AND c.oid {EQ} o.{owner}"
        f" AND o.{tree}::pg_catalog.text OPERATOR(pg_catalog.~) {_DIRECT}"
    )


# Whoever updates a view over pg_settings sets parameters.
_RULE = (
    f"'BY ',CASE WHEN pg_catalog.pg_relation_is_updatable(c.oid,false) OPERATOR(pg_catalog.&) 4"
    f" {EQ} 4 THEN 'UPDATE ' END,pg_catalog.pg_get_ruledef(o.oid)"
)
_CHECK = "'BY ',pg_catalog.pg_get_constraintdef(o.oid)"
_EXPRESSIONS = (
    _expression("pg_rewrite", "ev_class", "ev_action", _RULE),
    _expression("pg_attrdef", "adrelid", "adbin", "pg_catalog.pg_get_expr(o.adbin,o.adrelid)"),
    _expression("pg_trigger", "tgrelid", "tgqual", "'BY ',pg_catalog.pg_get_triggerdef(o.oid)"),
    _expression("pg_policy", "polrelid", "polqual", "pg_catalog.pg_get_expr(o.polqual,o.polrelid)"),
    _expression(
        "pg_policy",
        "polrelid",
        "polwithcheck",
        "pg_catalog.pg_get_expr(o.polwithcheck,o.polrelid)",
    ),
    _expression("pg_constraint", "conrelid", "conbin", _CHECK),
    _expression("pg_constraint", "contypid", "conbin", _CHECK),
    (
        "SELECT typname,'sql',typdefault FROM pg_catalog.pg_type"
        f" WHERE oid {_OWN} AND typtype {EQ} 'd' AND typdefaultbin IS NOT NULL"
    ),
    (
        "SELECT proname,'sql',pg_catalog.pg_get_expr(proargdefaults,0) FROM pg_catalog.pg_proc"
        f" WHERE oid {_OWN} AND proargdefaults::pg_catalog.text OPERATOR(pg_catalog.~) {_DIRECT}"
    ),
)
_ENCODING = (
    f"CASE WHEN pg_catalog.getdatabaseencoding() {EQ} 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END"
)
"""Bytes as they are where the database does not know its encoding: one odd function must not keep
all from being read."""


def _text_column(expression: str) -> str:
    return text_column(expression, _ENCODING)


_BODY = (
    f"CASE WHEN pg_catalog.octet_length(body) OPERATOR(pg_catalog.<=) {_LONGEST} THEN"
    f" {_text_column('body')} END"
)
_ALL_SOURCES = (_ROUTINES, _PATHS, *_EXPRESSIONS)
SOURCES = (
    f"SELECT {_text_column('name')},{_text_column('language')},{_BODY}"
    f" FROM ({' UNION ALL '.join(_ALL_SOURCES)}) s(name,language,body)"
).encode()


def _depending(kind: str, key: str, name: str, tables: str, condition: str = "true") -> str:
    """Names of what has a part (a rule, a trigger, ...) that depends on something."""
    return (
        f"SELECT {name},d.refclassid,d.refobjid FROM pg_catalog.pg_depend d,{tables}"
        f" WHERE d.classid {EQ} 'pg_catalog.{kind}'::pg_catalog.regclass AND {key} {EQ} d.objid"
        f" AND d.refobjid {_OWN} AND {condition}"
    )


def _owner(catalog: str, owner: str) -> str:
    tables = f"pg_catalog.{catalog} o,pg_catalog.pg_class c"
    return _depending(catalog, "o.oid", "c.relname", tables, f"c.oid {EQ} o.{owner}")


def _is(column: str, catalog: str) -> str:
    return f"{column} {EQ} 'pg_catalog.{catalog}'::pg_catalog.regclass"


def _reached(catalog: str, source: str, other: str, condition: str = "true") -> str:
    """Names of relations from which a change goes on to other relations."""
    return (
        f"SELECT c.relname,'pg_catalog.pg_class'::pg_catalog.regclass,o.{other}"
        f" FROM pg_catalog.{catalog} o, pg_catalog.pg_class c WHERE c.oid {EQ} o.{source}"
        f" AND {condition}"
    )


# Whatever fires an event trigger has one of these words in it (PostgreSQL documentation, "Event
# Trigger Firing Matrix").
_EVENTS = (
    "SELECT word,'pg_catalog.pg_proc'::pg_catalog.regclass,evtfoid"
    " FROM pg_catalog.pg_event_trigger,pg_catalog.unnest('{alter,comment,create,drop,grant,import,"
    "into,refresh,reindex,revoke,security}'::pg_catalog.name[]) word"
)
_OWNERS = (
    _owner("pg_rewrite", "ev_class"),
    _owner("pg_trigger", "tgrelid"),
    _owner("pg_policy", "polrelid"),
    _owner("pg_attrdef", "adrelid"),
    _owner("pg_constraint", "conrelid"),
    _depending("pg_proc", "p.oid", "p.proname", "pg_catalog.pg_proc p"),
    # Indexes by their expressions, tables by their partition keys' and by the domains of their
    # columns, domains by theirs.
    _depending(
        "pg_class",
        "o.indexrelid",
        "c.relname",
        "pg_catalog.pg_index o,pg_catalog.pg_class c",
        f"c.oid {EQ} o.indrelid AND {_is('d.refclassid', 'pg_proc')}",
    ),
    _depending(
        "pg_class",
        "c.oid",
        "c.relname",
        "pg_catalog.pg_class c",
        f"({_is('d.refclassid', 'pg_type')} OR {_is('d.refclassid', 'pg_proc')})",
    ),
    _depending("pg_type", "t.oid", "t.typname", "pg_catalog.pg_type t", f"t.typtype {_HOLDS}"),
    _depending(
        "pg_constraint",
        "o.oid",
        "t.typname",
        "pg_catalog.pg_constraint o,pg_catalog.pg_type t",
        f"t.oid {EQ} o.contypid",
    ),
    _EVENTS,
    *(
        f"SELECT '{ANY_TEXT}','pg_catalog.pg_proc'::pg_catalog.regclass,{function}::pg_catalog.oid"
        f" FROM pg_catalog.{catalog} WHERE oid {_OWN}"
        for catalog, function in _IMPLYING.items()
    ),
    _reached("pg_inherits", "inhparent", "inhrelid"),
    _reached("pg_constraint", "confrelid", "conrelid", _CASCADES),
)


def _used(catalog: str, name: str, key: str = "oid", condition: str = "true") -> str:
    return (
        f"SELECT u.name,o.{name} FROM u,pg_catalog.{catalog} o WHERE {_is('u.kind', catalog)}"
        f" AND o.{key} {EQ} u.oid AND {condition}"
    )


_ALL_USED = (
    _used("pg_proc", "proname"),
    _used("pg_class", "relname"),
    _used("pg_type", "typname", "oid", f"o.typtype {_HOLDS}"),
    _used("pg_type", "typname", "typarray", f"o.typtype {_HOLDS}"),
)
USES = (
    f"WITH u(name,kind,oid) AS ({' UNION ALL '.join(_OWNERS)})"
    f" SELECT {_text_column('used.name')},{_text_column('used.used')}"
    f" FROM ({' UNION '.join(_ALL_USED)}) used(name,used)"
).encode()
