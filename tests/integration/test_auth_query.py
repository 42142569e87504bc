"""Users that only Postgres knows: auth_query, its connection, its cache, its failures."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from proxy.auth import codes
from proxy.wire import messages
from tests.conftest import StartFunnel
from tests.funnel import Funnel
from tests.integration.observe import Watch, until
from tests.integration.peer import Peer
from tests.postgres import USERS, Postgres

LOOKS = "pgfunnel auth_query"
COUNTING = """
CREATE TABLE asked (who text);
CREATE FUNCTION find_user(who text) RETURNS TABLE (name text, secret text) LANGUAGE sql AS $$
    INSERT INTO public.asked VALUES (who);
    SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = who AND rolcanlogin
$$
"""


@pytest.fixture
def looking(pgfunnel: StartFunnel, postgres: Postgres) -> Funnel:
    """Knows the upstream's own user alone, and asks Postgres for all others."""
    return pgfunnel(auth_file=None, auth_user=postgres.user)


@pytest.fixture
def counting(own_postgres: Postgres) -> Postgres:
    """Notes in the table `asked` whom it was asked for by `find_user`."""
    own_postgres.psql(COUNTING)
    return own_postgres


@pytest.fixture
def lookers(tmp_path: Path) -> Path:
    """A user list that knows the looker alone."""
    file = tmp_path / "lookers.txt"
    file.write_text('"looker" "looks"\n')
    return file


def asked(postgres: Postgres) -> list[str]:
    return [who for (who,) in postgres.psql("SELECT who FROM asked")]


def told(funnel: Funnel, user: str, password: str = "", database: str = "") -> dict[str, str]:
    """The error that ends a login, empty when there is none."""
    with Peer(funnel.host, funnel.port, timeout=30) as peer:
        return peer.refusal(user, database or funnel.upstream.database, password)


def lookups_connected(postgres: Postgres) -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    return int(postgres.psql(sql, LOOKS)[0][0])


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "password", "md5"])
@pytest.mark.parametrize("pure", [False, True])
def test_users_that_postgres_knows(
    pgfunnel: StartFunnel, postgres: Postgres, auth_type: str, pure: bool
) -> None:
    """What the login reveals opens Postgres too, since pgfunnel has no password of theirs."""
    funnel = pgfunnel(auth_file=None, auth_user=postgres.user, auth_type=auth_type, pure=pure)
    users = ["alice", "bob"] if auth_type == "scram-sha-256" else list(USERS)[:3]
    for user in users:
        with psycopg.connect(funnel.dsn(user), autocommit=True) as connection:
            assert connection.execute("SELECT session_user::text").fetchone() == (user,)
    assert told(funnel, "alice", "wrong")["C"] == "28P01"


def test_wrong_and_unknown_read_and_look_the_same(looking: Funnel) -> None:
    seen = []
    for user in ("alice", "nobody"):
        with Peer(looking.host, looking.port) as peer:
            error = peer.refusal(user, looking.upstream.database, "wrong")
            assert peer.ended()
        seen.append({k: v.replace(user, "") for k, v in error.items()})
    assert seen[0] == seen[1]
    assert seen[0]["C"] == "28P01"


def test_a_user_that_does_not_exist_is_asked_by_scram_under_md5(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    """As nearly everybody in Postgres is: an md5 request would tell that there is no such user."""
    funnel = pgfunnel(auth_file=None, auth_user=postgres.user, auth_type="md5")
    for user in ("nobody", "alice"):
        with Peer(funnel.host, funnel.port) as peer:
            peer.start(user, funnel.upstream.database)
            kind, body = peer.message()
            assert (kind, int.from_bytes(body[:4], "big")) == (b"R", codes.SASL)


def test_each_is_asked_for_once_in_a_while(pgfunnel: StartFunnel, counting: Postgres) -> None:
    query = "SELECT name, secret FROM find_user($1)"
    funnel = pgfunnel(
        counting,
        auth_file=None,
        auth_user=counting.user,
        auth_query=query,
        auth_query_cache=60,
        pure=True,
    )
    threads = [
        threading.Thread(target=told, args=(funnel, user, USERS.get(user, "")))
        for user in ["alice", "nobody"] * 10
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked(counting)) == ["alice", "nobody"]


def test_a_new_password_counts_after_one_refusal(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    funnel = pgfunnel(
        own_postgres, auth_file=None, auth_user=own_postgres.user, auth_query_cache=3600
    )
    assert not told(funnel, "alice", USERS["alice"])
    own_postgres.psql("ALTER ROLE alice PASSWORD 'new'")
    until(lambda: not told(funnel, "alice", "new"), what="the new password lets alice in")
    assert told(funnel, "alice", USERS["alice"])["C"] == "28P01"


def test_a_password_that_is_not_valid_any_more(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    own_postgres.psql("ALTER ROLE alice VALID UNTIL '2001-01-01'")
    own_postgres.psql("ALTER ROLE bob VALID UNTIL '2101-01-01'")
    own_postgres.psql("ALTER ROLE dave NOLOGIN")
    funnel = pgfunnel(own_postgres, auth_file=None, auth_user=own_postgres.user)
    assert told(funnel, "alice", USERS["alice"])["C"] == "28P01"
    assert told(funnel, "dave", USERS["dave"])["C"] == "28P01"
    assert not told(funnel, "bob", USERS["bob"])


def test_what_clients_ask_for_does_not_touch_it(pgfunnel: StartFunnel, counting: Postgres) -> None:
    """A client's search_path must not choose the function (CVE-2025-12819)."""
    counting.psql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO public;"
        "CREATE FUNCTION evil.find_user(text) RETURNS TABLE (name text, secret text)"
        " LANGUAGE sql AS $$ SELECT 'nobody', 'known' $$"
    )
    funnel = pgfunnel(
        counting,
        auth_file=None,
        auth_user=counting.user,
        auth_query="SELECT name, secret FROM find_user($1)",
        auth_query_cache=0,
        default_pool_size=1,
    )
    for parameters in ({"search_path": "evil"}, {"options": "-c search_path=evil"}):
        with Peer(funnel.host, funnel.port) as peer:
            found = peer.refusal("nobody", funnel.upstream.database, "known", **parameters)
        assert found["C"] == "28P01"
    with psycopg.connect(funnel.dsn(), options="-c search_path=evil", autocommit=True) as other:
        other.execute("SET search_path = evil")
        assert told(funnel, "nobody", "known")["C"] == "28P01"
        assert not told(funnel, "alice", USERS["alice"])
    assert asked(counting) == ["nobody"] * 3 + ["alice"]


def test_its_connection_is_within_the_bound(
    pgfunnel: StartFunnel, own_postgres: Postgres, lookers: Path
) -> None:
    """One place for servers and lookups together, and everybody gets in."""
    own_postgres.psql("CREATE ROLE looker SUPERUSER LOGIN PASSWORD 'looks'")
    funnel = pgfunnel(
        own_postgres,
        auth_file=lookers,
        auth_user="looker",
        auth_query_cache=0,
        max_db_connections=1,
        default_pool_size=1,
    )
    refused: list[dict[str, str]] = []
    served: list[str] = []

    def visit(user: str) -> None:
        with Peer(funnel.host, funnel.port, timeout=30) as peer:
            error = peer.refusal(user, own_postgres.database, USERS[user])
            if error:
                refused.append(error)
            else:
                peer.query("SELECT 1")
                served.append(user)

    with Watch(own_postgres, "looker", *USERS) as watch:
        threads = [threading.Thread(target=visit, args=(user,)) for user in ["alice", "bob"] * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert refused == []
    assert len(served) == len(threads)
    assert watch.most[""] == 1


def test_its_connection_ends_when_nobody_needs_it(looking: Funnel) -> None:
    assert not told(looking, "alice", USERS["alice"])
    assert lookups_connected(looking.upstream) == 1
    until(lambda: lookups_connected(looking.upstream) == 0, 15)


def test_it_survives_a_restart_of_postgres(pgfunnel: StartFunnel, own_postgres: Postgres) -> None:
    funnel = pgfunnel(
        own_postgres,
        auth_file=None,
        auth_user=own_postgres.user,
        auth_query_cache=0,
        upstream_grace=20,
    )
    assert not told(funnel, "alice", USERS["alice"])
    server = own_postgres.server
    assert server is not None
    server.halt()
    with ThreadPoolExecutor() as executor:
        answer = executor.submit(told, funnel, "alice", USERS["alice"])
        until(lambda: funnel.log().count("Connection refused") > 1)
        server.start()
        assert answer.result() == {}


@pytest.mark.parametrize(
    "user, query, words",
    [
        ("looker", None, "permission denied for"),
        ("nobody", None, "authentication failed for user"),
        ("looker", "SELECT x, $1::text", "does not exist"),
        ("looker", "SELECT $1::text", "one column"),
        ("looker", "SELECT 'bob', $1::text", "of the user in question"),
    ],
)
def test_why_it_failed_is_for_the_log(
    pgfunnel: StartFunnel,
    own_postgres: Postgres,
    lookers: Path,
    user: str,
    query: str | None,
    words: str,
) -> None:
    own_postgres.psql("CREATE ROLE looker LOGIN PASSWORD 'looks'")
    funnel = pgfunnel(own_postgres, auth_file=lookers, auth_user=user, auth_query=query)
    error = told(funnel, "alice", USERS["alice"])
    assert error["C"] == "28P01"
    assert error["M"] == 'password authentication failed for user "alice"'
    assert set(error) == {"S", "V", "C", "M"}
    until(lambda: "error response from auth_query" in funnel.log())
    assert words in funnel.log()
    assert "looks" not in funnel.log()


def test_a_hash_of_its_password_is_not_enough(
    pgfunnel: StartFunnel, own_postgres: Postgres, lookers: Path
) -> None:
    own_postgres.psql("CREATE ROLE looker SUPERUSER LOGIN PASSWORD 'looks'")
    (secret,) = own_postgres.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'looker'")[0]
    lookers.write_text(f'"looker" "{secret}"')
    funnel = pgfunnel(own_postgres, auth_file=lookers, auth_user="looker")
    assert told(funnel, "alice", USERS["alice"])["C"] == "28P01"
    until(lambda: "must be known in plain" in funnel.log())


def test_a_query_that_asks_for_nobody(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    """It is told at the start, and nobody waits for it."""
    funnel = pgfunnel(auth_file=None, auth_user=postgres.user, auth_query="SELECT 1")
    assert "auth_query finds nobody: it has no $1 in it" in funnel.log()
    began = time.monotonic()
    assert told(funnel, "alice", USERS["alice"])["C"] == "28P01"
    assert time.monotonic() - began < 3
    (line,) = [ln for ln in funnel.log().splitlines() if "error response from auth_query" in ln]
    assert "expects 0 arguments" in line
    assert "$1, the name of the user" in line


def test_a_database_of_its_own(
    pgfunnel: StartFunnel, own_postgres: Postgres, lookers: Path
) -> None:
    """auth_dbname is where the query runs, for those databases that have an auth_user."""
    own_postgres.psql("CREATE ROLE looker LOGIN PASSWORD 'looks'")
    own_postgres.psql(COUNTING, database="other")
    own_postgres.psql("ALTER FUNCTION find_user SECURITY DEFINER", database="other")
    place = {"host": own_postgres.host, "port": own_postgres.port}
    asking = {"auth_user": "looker", "auth_query": "SELECT * FROM find_user($1)"}
    funnel = pgfunnel(
        own_postgres,
        upstream=None,
        auth_file=lookers,
        auth_dbname="keys",
        databases={
            "keys": {**place, "dbname": "other"},
            "app": {**place, "dbname": "postgres", **asking},
            "shop": {**place, "dbname": "postgres"},
        },
    )
    assert not told(funnel, "alice", USERS["alice"], "app")
    assert told(funnel, "alice", USERS["alice"], "shop")["C"] == "28P01"
    assert own_postgres.psql("SELECT who FROM asked", database="other") == [("alice",)]


def test_a_reload_keeps_what_logins_revealed(looking: Funnel) -> None:
    """Clients of users that were looked up get servers after a reload as before."""
    with Peer(looking.host, looking.port) as peer:
        peer.log_in("alice", looking.upstream.database, USERS["alice"])
        looking.signal(signal.SIGHUP)
        until(lambda: "reloaded" in looking.log())
        looking.upstream.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'"
        )
        until(lambda: looking.upstream.client_backends("alice") == 0)
        assert peer.rows("SELECT session_user")[0] == [b"alice"]


def test_databases_that_strangers_make_up_leave_nothing_behind(
    pgfunnel: StartFunnel, own_postgres: Postgres
) -> None:
    upstream = own_postgres.dsn.removesuffix(own_postgres.database)
    funnel = pgfunnel(own_postgres, upstream=upstream, auth_file=None, auth_user=own_postgres.user)
    for number in range(20):
        assert told(funnel, "alice", "x", f"made-up-{number}")["C"] == "28P01"
    until(lambda: "made-up-19" in funnel.log())
    assert "made-up" not in funnel.get("/metrics")
    assert not told(funnel, "alice", USERS["alice"], own_postgres.database)


def test_a_word_ahead_of_the_answer_is_heard(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    """A password sent together with the start-up packet waits for the lookup."""
    funnel = pgfunnel(auth_file=None, auth_user=postgres.user, auth_type="password")
    with Peer(funnel.host, funnel.port) as peer:
        packet = messages.startup([(b"user", b"alice"), (b"database", postgres.database.encode())])
        password = messages.message(b"p", USERS["alice"].encode() + b"\0")
        peer.send(packet + password + messages.query(b"SELECT 7"))
        told = peer.until(b"Z") + peer.until(b"Z")
    assert messages.read_row(next(body for kind, body in told if kind == b"D")) == [b"7"]
