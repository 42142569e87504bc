"""The page docs/compatibility.md: what of PgBouncer holds here, written from the declarations.

python -m proxy.settings.compatibility > docs/compatibility.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from pydantic.fields import FieldInfo

from proxy.settings import pgbouncer
from proxy.settings.databases import TABLES
from proxy.settings.model import Settings
from proxy.settings.types import declared

SAME: Final = "same"
DIFFERENT: Final = "different"
NO_USE: Final = "not applicable"
_TIMES: Final = "times do not include waiting for a server, which is `wait_time` alone"
CONSOLE: Final = MappingProxyType(
    {
        "SHOW HELP": (SAME, ""),
        "SHOW POOLS": (SAME, "servers that Postgres has still to close count as `sv_tested`"),
        "SHOW STATS": (SAME, _TIMES),
        "SHOW STATS_TOTALS": (SAME, _TIMES),
        "SHOW STATS_AVERAGES": (SAME, _TIMES),
        "SHOW TOTALS": (SAME, _TIMES),
        "SHOW CLIENTS": (SAME, "`ptr` and `link` are the names that log lines have"),
        "SHOW SERVERS": (DIFFERENT, "one more state: `closing`, until Postgres has closed too"),
        "SHOW SOCKETS": (DIFFERENT, "there is one shared buffer: positions in it are 0"),
        "SHOW ACTIVE_SOCKETS": (DIFFERENT, "as SHOW SOCKETS"),
        "SHOW DATABASES": (SAME, ""),
        "SHOW USERS": (SAME, ""),
        "SHOW LISTS": (SAME, "nothing is kept for reuse: `free_` and `dns_` are 0"),
        "SHOW CONFIG": (
            SAME,
            "with pgfunnel's own settings, and those without effect; no passwords",
        ),
        "SHOW STATE": (SAME, ""),
        "SHOW VERSION": (SAME, "PgBouncer's version, then pgfunnel's"),
        "SHOW MEM": (DIFFERENT, "what there is is another; the last row is the process"),
        "SHOW FDS": (NO_USE, "refused: there is no takeover by a new process"),
        "SHOW DNS_HOSTS": (NO_USE, "empty: the system's resolver is asked"),
        "SHOW DNS_ZONES": (NO_USE, "empty: the system's resolver is asked"),
        "SHOW PEERS": (SAME, ""),
        "SHOW PEER_POOLS": (SAME, "a cancel that connects to its peer counts as under way"),
        "PAUSE": (
            SAME,
            "a pinned client keeps its server, and PAUSE waiting, until it is unpinned",
        ),
        "RESUME": (SAME, "also after a KILL of everything"),
        "DISABLE": (SAME, ""),
        "ENABLE": (SAME, ""),
        "RECONNECT": (SAME, "replication connections end at once"),
        "KILL": (SAME, ""),
        "KILL_CLIENT": (DIFFERENT, "its server is brought to a boundary and kept, not closed"),
        "WAIT_CLOSE": (SAME, "waits for the servers that were to be closed when it was said"),
        "SUSPEND": (NO_USE, "refused: there is no takeover by a new process; use PAUSE"),
        "RELOAD": (SAME, "what is wrong is said here too, not only in the log"),
        "SET": (SAME, "until the next reload"),
        "SHUTDOWN": (SAME, "as SIGQUIT"),
        "SHUTDOWN WAIT_FOR_SERVERS": (SAME, "as SIGINT"),
        "SHUTDOWN WAIT_FOR_CLIENTS": (SAME, "operators may still come in, over TCP too"),
    }
)
_PASSWORDS: Final = "no client of such a service is part of pgfunnel; use auth_query"
METHODS: Final = MappingProxyType(
    {
        "trust": (SAME, ""),
        "plain": (SAME, "also called `password`"),
        "md5": (SAME, "a SCRAM secret is asked for by SCRAM"),
        "scram-sha-256": (SAME, "with channel binding, where the client has it"),
        "any": (SAME, "every database needs a user; whoever reaches the console may do all there"),
        "cert": (SAME, "with every client_tls_sslmode but disable"),
        "hba": (SAME, "see below"),
        "ldap": (NO_USE, f"refused, in `auth_hba_file` too: {_PASSWORDS}"),
        "pam": (NO_USE, f"refused: {_PASSWORDS}"),
    }
)
_TERM: Final = """\
a drain, for sidecars: idle clients are told to go (57P01), transactions have drain_timeout to \
finish, new clients are told to try elsewhere; PgBouncer waits until the last client has left by \
itself. Twice: at once"""
_INT: Final = """\
waits for the last server to be given back, however long it takes (in session pooling: until its \
client leaves), and tells clients that wait for \
one to go, as PgBouncer does; idle clients are told at once, not in the end. Twice: at once"""
SIGNALS: Final = MappingProxyType(
    {
        "SIGHUP": (SAME, "reload"),
        "SIGTERM": (DIFFERENT, _TERM),
        "SIGINT": (DIFFERENT, _INT),
        "SIGQUIT": (SAME, "at once"),
        "SIGUSR1": (SAME, "PAUSE"),
        "SIGUSR2": (SAME, "RESUME"),
    }
)
COMMAND_LINE: Final = MappingProxyType(
    {
        "pgbouncer FILE": (SAME, "`pgfunnel FILE`, or `pgfunnel serve FILE`"),
        "-q, --quiet": (SAME, ""),
        "-v, --verbose": (SAME, "log_level is debug, however often it is given"),
        "-u, --user": (SAME, "as `user` in the file"),
        "-d, --daemon": (NO_USE, "refused; let systemd, or `setsid -f`, run it in the background"),
        "-R, --reboot": (NO_USE, "refused; use so_reuseport, as PgBouncer's documentation advises"),
        "-V, --version": (SAME, ""),
        "-h, --help": (SAME, ""),
    }
)
_INTRO: Final = """\
# What of PgBouncer holds here

<!-- Generated by `python -m proxy.settings.compatibility`. -->

`pgfunnel serve pgbouncer.ini` runs with PgBouncer's configuration file, and
`pgfunnel check pgbouncer.ini` says how each line was understood and what has no effect. A file
is PgBouncer's when its name ends in `.ini`, `.conf` or `.cfg`. Settings that only pgfunnel has may
stand in a section `[pgfunnel]`. The tables name everything in PgBouncer 1.25's documentation.

- **same**: name, meaning and unit are PgBouncer's; a default that is another one is named.
- **different**: it says how.
- **not applicable**: accepted and said at the start to have no effect.

`[databases]` may be empty: then there is the console alone. What is refused on purpose: a password
in `[databases]` without a user, and numbers where PgBouncer takes 0 for "no pool size". Where a
file is silent, `listen_addr`, `unix_socket_dir` and `auth_type` are as PgBouncer has them, not as
pgfunnel has them elsewhere. An entry of `[databases]` without a `host` means the unix socket in
`unix_socket_dir`.
"""
_LOOKUPS: Final = """\
## Users that Postgres knows

With `auth_user`, users that `auth_file` does not have are looked up by `auth_query`. What it finds,
or that it finds nothing, is believed for `auth_query_cache` seconds (5; PgBouncer asks at each
login), and forgotten when a login is refused. The query has a connection of its own, at most one
for each database, within the bounds of the pool of (`auth_dbname`, `auth_user`); it is closed after
five seconds without use, and at once when its place is needed. Its parameters are fixed: nothing
that a client sends reaches it but the user's name, as `$1`. When Postgres cannot be asked, the
client is told what a wrong password is told (28P01), and the log says
`error response from auth_query`.
A secret that is a SCRAM verifier is enough: what the client's login reveals opens Postgres too.
"""
_TLS: Final = """\
## TLS

Clients may begin with TLS directly (ALPN `postgresql`), as in PostgreSQL 17; towards Postgres,
`server_tls_sslnegotiation = direct` does (tried with PostgreSQL 17.5: logins, queries and cancel
requests). SCRAM-SHA-256-PLUS (`tls-server-end-point`) is offered to
clients on TLS and used with servers that offer it; PgBouncer has neither. SIGHUP reads certificates
anew: clients and servers that are connected stay as they are, new clients see the new certificate,
and servers are opened anew at their next boundary only if what is shown to Postgres has changed.
"""
_HBA: Final = """\
## HBA and ident files

With `auth_type = hba`, `auth_hba_file` and `auth_ident_file` are read at the start and at a reload,
as PgBouncer and Postgres read them. A line that is not understood makes the whole file wrong: a
rule that is passed over could let somebody in (PgBouncer warns, and passes over it). Who fits no
rule is told `no authentication method is found`, who is rejected by one `login rejected` (28000);
the log says which line that was, or that there is none.

- Types `local`, `host`, `hostssl`, `hostnossl`; several names separated by commas; quoted names;
  `@file`; `all`, `sameuser`, `replication`; addresses as `all`, with a length or with a mask.
- Methods `trust`, `reject`, `password` (also called `plain`), `md5`, `scram-sha-256`, `cert` (in
  `hostssl`), `peer` (in `local`); the option `map=` for the last two; `clientcert=verify-ca` and
  `clientcert=verify-full` (in `hostssl`), which PgBouncer does not have.
- `auth_type = peer`, which PgBouncer has in rules only, lets Unix users in under their own names.
- Ident maps: lines of `map-name system-user database-user`, `all` for any database user.
- Not supported there either: `+group`, `samerole` and `samegroup` (who is in a role is known to
  Postgres alone), `/regular expressions`, host names, `samehost`, `samenet`, `include`.
- Not supported here: the method `ldap`, and options but those named.
"""
_LOG: Final = """\
## Log lines and errors

Lines are PgBouncer's in form and words, so that what reads its log reads this one (`log_format =
json` has every field by name instead):

```
2026-11-23 13:40:01.123 UTC [71] LOG C-0x1a2b: app/alice@10.0.0.7:5123 login attempt: db=app \
user=alice tls=no replication=no
2026-11-23 13:40:13.423 UTC [71] LOG C-0x1a2b: app/alice@10.0.0.7:5123 closing because: client \
close request (age=12s, reason=client_left)
```

- `login attempt: …` is written when the client is in (in PgBouncer before its password is asked
  for), `new connection to server (from …)` when Postgres has let us in.
- `closing because: …` has PgBouncer's words, or what the client was told; `reason` is the word that
  metrics and the console have for it.
- `pooler error: …`, `server login failed: …`, `stats: …`, `got SIGHUP, re-reading config` and its
  like, `PAUSE command issued` and its like are as there, with more in brackets behind.

Clients are told PgBouncer's words too: `no more connections allowed (max_client_conn)`, `client
connections exceeded (max_db_client_connections)`, `query_wait_timeout`, `query timeout`,
`client_idle_timeout`, `idle transaction timeout`, `transaction timeout`, `client_login_timeout`,
`no such database: …`, `database "…" is disabled`, `SSL required`, `server conn crashed?`, `server
login has been failing, cached error: … (server_login_retry)`, `pooler is shutting down`, `admin
forced disconnect`, `database removed`, `database configuration changed`, `transaction blocks not
allowed in statement pooling mode`; a hint says what to do. What differs: SQLSTATEs, by which
drivers decide whether to try again (PgBouncer says 08P01 of everything), the words for a wrong
password, which are Postgres's, and errors of Postgres itself, which come as they are.
"""


def page() -> str:
    """The whole page."""
    settings = {key: _global(key) for key in pgbouncer.GLOBAL}
    lines = [_INTRO, *_table("Settings, in [pgbouncer]", "setting", settings)]
    for table, keys in pgbouncer.TABLES.items():
        rows = {key: _nested(table, key) for key in keys}
        lines += _table(f"Keys, in [{table}]", "key", rows)
    lines += _table("Authentication", "auth_type", METHODS)
    lines += [_HBA, _LOOKUPS, _TLS, _LOG]
    lines += _table("Console", "command", CONSOLE)
    lines += _table("Signals", "signal", SIGNALS)
    lines += _table("Command line", "switch", COMMAND_LINE)
    return "\n".join(lines)


def _table(title: str, what: str, rows: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"| {what} | here | how, or why |\n|---|---|---|"
    for name, (status, words) in rows.items():
        yield f"| `{name}` | {status} | {words} |"
    yield ""


def _global(key: str) -> tuple[str, str]:
    name = pgbouncer.setting_of(key)
    if name is not None:
        return _declared(key, name, Settings.model_fields[name])
    return NO_USE, pgbouncer.IGNORED[key]


def _declared(key: str, name: str, field: FieldInfo) -> tuple[str, str]:
    words = [declared(field).differs] if declared(field).differs else []
    if name != key:
        words.append(f"called `{name}` outside the ini file")
    status = DIFFERENT if declared(field).differs else SAME
    defaults = {name: (here, there) for name, here, there in pgbouncer.other_defaults()}
    if name in defaults and name not in pgbouncer.AS_THERE:
        here, there = defaults[name]
        words.append(f"default {here}, PgBouncer's {there}".replace("<empty>", "an empty query"))
    return status, "; ".join(words)


def _nested(table: str, key: str) -> tuple[str, str]:
    name = pgbouncer.ALIASES.get(key, key)
    words = declared(TABLES[table].model_fields[name]).differs
    return (DIFFERENT, words) if words else (SAME, f"as `{name}`" if name != key else "")


if __name__ == "__main__":
    sys.stdout.write(page().rstrip() + "\n")
