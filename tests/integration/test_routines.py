"""Functions, triggers and views of a user's own that change the session of whoever uses them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import psycopg
import pytest

from tests.conftest import StartFunnel, StartPostgres
from tests.funnel import Funnel, start_funnel
from tests.integration.observe import cancel_who_waits, eventually, until, waiters
from tests.postgres import Postgres

SCHEMA = "routines"
MAKE = """
CREATE SCHEMA routines;
GRANT USAGE ON SCHEMA routines TO PUBLIC;
SET search_path = routines;
CREATE FUNCTION log_in(who text) RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.who', who, false); END $$;
CREATE FUNCTION nested(who text) RETURNS void LANGUAGE sql AS $$ SELECT routines.log_in(who) $$;
CREATE FUNCTION "Quoted ""Name"" it"(who text) RETURNS void LANGUAGE sql AS
  $$ SELECT routines.log_in(who) $$;
CREATE FUNCTION dynamic(who text) RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN EXECUTE format('SET app.who = %L', who) /* 'app.who' */; END $$;
CREATE FUNCTION local_only(who text) RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.who', who, true); END $$;
CREATE PROCEDURE called(who text) LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.who', who, false); END $$;
CREATE VIEW watched AS SELECT set_config('app.who', 'viewer', false) AS who;
CREATE VIEW over_it AS SELECT who FROM watched;
CREATE TABLE plain (who text);
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM routines.log_in(NEW.who); RETURN NEW; END $$;
CREATE TRIGGER marks BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION mark();
CREATE VIEW before_it AS SELECT * FROM plain;
CREATE TABLE with_default (who text, at text DEFAULT routines.nested('defaulted')::text);
CREATE FUNCTION takes_lock(n int) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(n) $$;
CREATE FUNCTION gives_lock(n int) RETURNS bool LANGUAGE sql AS $$ SELECT pg_advisory_unlock(n) $$;
CREATE FUNCTION listens() RETURNS void LANGUAGE plpgsql AS $$ BEGIN LISTEN news; END $$;
CREATE FUNCTION makes_table() RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN CREATE TEMP TABLE made (i int); END $$;
CREATE FUNCTION makes_passing() RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN CREATE TEMP TABLE made (i int) ON COMMIT DROP; END $$;
GRANT ALL ON ALL TABLES IN SCHEMA routines TO PUBLIC;
"""

CALLS = [
    ("SELECT routines.log_in('one')", "one"),
    ("select 1; SELECT ROUTINES.LOG_IN('one')", "one"),
    ("SELECT routines.nested('one')", "one"),
    ('SELECT routines."Quoted ""Name"" it"($$one$$)', "one"),
    ("SELECT routines.dynamic('one')", "one"),
    ("CALL routines.called('one')", "one"),
    ("SELECT * FROM routines.over_it", "viewer"),
    ("INSERT INTO routines.plain VALUES ('one')", "one"),
    ("INSERT INTO routines.before_it VALUES ('one')", "one"),
    ("INSERT INTO routines.with_default (who) VALUES ('x')", "defaulted"),
    ("DO $$ BEGIN PERFORM routines.log_in('one'); END $$", "one"),
]


@pytest.fixture(scope="module", autouse=True)
def schema(postgres: Postgres) -> Iterator[None]:
    with psycopg.connect(postgres.dsn, autocommit=True) as owner:
        owner.execute("DROP SCHEMA IF EXISTS routines CASCADE")
        owner.execute(MAKE)
    yield
    with psycopg.connect(postgres.dsn, autocommit=True) as owner:
        owner.execute("DROP SCHEMA routines CASCADE")


def pins(funnel: Funnel) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(funnel.get("/pins"))["pinned"]
    return found


@pytest.fixture(scope="module")
def shared(
    schema: None, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Funnel]:
    """One server for all of the tests that need no settings of their own."""
    funnel = start_funnel(
        postgres, tmp_path_factory.mktemp("shared"), default_pool_size=1, session_audit=1
    )
    yield funnel
    funnel.stop()
    funnel.check()
    assert "leak" not in funnel.log()


@asynccontextmanager
async def client(funnel: Funnel, **options: int) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(funnel.dsn("alice"), timeout=10, **options)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def who(connection: asyncpg.Connection) -> object:
    return await connection.fetchval("SELECT nullif(current_setting('app.who', true), '')")


@pytest.mark.parametrize("sql, value", CALLS)
async def test_what_code_out_of_sight_sets_is_its_own(shared: Funnel, sql: str, value: str) -> None:
    async with client(shared) as one, client(shared) as other:
        await one.execute(sql)
        assert await who(other) is None
        assert await who(one) == value


async def test_prepared_statements_that_call_it(shared: Funnel) -> None:
    funnel = shared
    async with client(funnel) as one, client(funnel) as other:
        prepared = await one.prepare("SELECT routines.nested($1)")
        await one.execute("PREPARE logs (text) AS SELECT routines.nested($1)")
        for round_ in ("first", "second"):
            await prepared.fetch(round_)
            assert await who(other) is None
            assert await who(one) == round_
            await one.execute(f"EXECUTE logs('{round_} by SQL')")
            assert await who(other) is None
            assert await who(one) == f"{round_} by SQL"


async def test_what_ends_with_the_transaction_is_not_asked_for(shared: Funnel) -> None:
    funnel = shared
    async with client(funnel) as one, client(funnel) as other:
        await one.execute("SELECT routines.local_only('one')")
        await one.execute("SELECT routines.makes_passing()")
        assert await who(other) is None
        assert await who(one) is None
        assert pins(funnel) == []


@pytest.mark.parametrize(
    "sql, reason",
    [
        ("SELECT routines.takes_lock(7)", "advisory_lock"),
        ("SELECT routines.listens()", "listen"),
        ("SELECT routines.makes_table()", "temporary"),
    ],
)
async def test_what_it_holds_pins(shared: Funnel, sql: str, reason: str) -> None:
    async with client(shared) as one:
        await one.execute(sql)
        await eventually(lambda: [pin["reason"] for pin in pins(shared)] == [reason])
    async with client(shared) as other:
        assert await other.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
        assert await other.fetchval("SELECT to_regclass('made')") is None


async def test_a_function_that_unlocks_unpins_at_once(shared: Funnel) -> None:
    async with client(shared) as one, client(shared) as other:
        await one.execute("SELECT pg_advisory_lock(8)")
        waiting = asyncio.create_task(other.fetchval("SELECT 1"))
        await eventually(lambda: waiters(shared) == 1)
        assert await one.fetchval("SELECT routines.gives_lock(8)") is True
        assert await waiting == 1


async def test_a_function_is_known_as_soon_as_it_is_made(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=2)
    make = "CREATE OR REPLACE FUNCTION routines.fresh() RETURNS void LANGUAGE plpgsql AS $$ {} $$"
    async with client(funnel, statement_cache_size=0) as one, client(funnel) as other:
        owner = await asyncpg.connect(funnel.dsn())
        try:
            await owner.execute(make.format("BEGIN END"))
            kept = await one.prepare("SELECT routines.fresh()")
            await kept.fetch()
            body = "BEGIN PERFORM set_config('app.who', 'fresh', false); END"
            await owner.execute(make.format(body))
            await kept.fetch()
            assert await who(other) is None
            assert await who(one) == "fresh"
            async with owner.transaction():
                await owner.execute(make.format(body.replace("fresh", "newer")))
                await owner.execute("SELECT routines.fresh()")
            assert await who(other) is None
            assert await who(owner) == "newer"
        finally:
            await owner.close(timeout=5)


def test_what_is_made_elsewhere_is_seen_after_a_while(
    pgfunnel: StartFunnel, postgres: Postgres
) -> None:
    funnel = pgfunnel(default_pool_size=1, session_catalog_interval=0.2)
    with (
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as one,
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as other,
        psycopg.connect(postgres.dsn, autocommit=True) as owner,
    ):
        other.execute("SELECT 1")
        owner.execute(
            "CREATE FUNCTION routines.late() RETURNS text LANGUAGE sql AS"
            " $$ SELECT set_config('app.late', 'set', false) $$"
        )

        def known() -> bool:
            other.execute("SELECT 1")
            return "late" in funnel.log()

        until(known)
        one.execute("SELECT routines.late()")
        query = "SELECT nullif(current_setting('app.late', true), '')"
        assert other.execute(query).fetchone() == (None,)
        assert one.execute(query).fetchone() == ("set",)


def test_it_can_be_left_alone(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, session_catalog_interval=0)
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as one:
        one.execute("SELECT routines.local_only('x')")
    assert "routines_change_sessions" not in funnel.log()


async def test_a_mere_suspicion_is_not_refused(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, session_policy="listen=reject")
    async with client(funnel) as one:
        await one.execute("SELECT routines.dynamic('one')")
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="listen=reject"):
            await one.execute("SELECT routines.listens()")


async def test_a_time_limit_does_not_keep_postgres_from_telling(pgfunnel: StartFunnel) -> None:
    funnel = pgfunnel(default_pool_size=1, session_catalog_interval=0.1)
    async with client(funnel, statement_cache_size=0) as one:
        await one.execute("SET statement_timeout = 1; SET default_transaction_deferrable = on")
        for _ in range(5):
            with suppress(asyncpg.QueryCanceledError):  # a busy machine needs longer for its own
                await one.execute("SELECT 1")
            await asyncio.sleep(0.12)
    assert "routines_unknown" not in funnel.log()


MADE = [
    (
        [
            "CREATE FUNCTION made.f() RETURNS text LANGUAGE sql AS $$ SELECT @set $$",
            "CREATE TABLE made.t (a text DEFAULT made.f(), b int)",
        ],
        "INSERT INTO made.t (b) VALUES (1)",
    ),
    (
        [
            "CREATE FUNCTION made.f2() RETURNS text LANGUAGE sql AS $$ SELECT @set $$",
            "CREATE TABLE made.t2 (a text DEFAULT made.f2(), b int)",
            "CREATE TABLE made.like_it (LIKE made.t2 INCLUDING ALL)",
        ],
        "INSERT INTO made.like_it (b) VALUES (1)",
    ),
    (
        [
            "CREATE FUNCTION made.f3() RETURNS text LANGUAGE sql AS $$ SELECT @set $$",
            "CREATE TABLE made.t3 (a text DEFAULT made.f3(), b int)",
            "CREATE TABLE made.child () INHERITS (made.t3)",
        ],
        "INSERT INTO made.child (b) VALUES (1)",
    ),
    (["CREATE TABLE made.own (a text DEFAULT @set, b int)"], "INSERT INTO made.own (b) VALUES (1)"),
    (
        ["CREATE TABLE made.checked (a int CHECK (@set IS NOT NULL))"],
        "INSERT INTO made.checked VALUES (1)",
    ),
    (
        [
            (
                "CREATE FUNCTION made.nop() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RETURN new; END $$"
            ),
            "CREATE TABLE made.fired (a int)",
            (
                "CREATE TRIGGER x BEFORE INSERT ON made.fired FOR EACH ROW WHEN (@set IS NOT NULL)"
                " EXECUTE FUNCTION made.nop()"
            ),
        ],
        "INSERT INTO made.fired VALUES (1)",
    ),
    (
        [
            "CREATE TABLE made.secured (a int)",
            "INSERT INTO made.secured VALUES (1)",
            "ALTER TABLE made.secured ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY p ON made.secured USING (@set IS NOT NULL)",
            "GRANT SELECT ON made.secured TO alice",
            "GRANT USAGE ON SCHEMA made TO alice",
        ],
        "BEGIN; SET LOCAL ROLE alice; TABLE made.secured; COMMIT",
    ),
    (["CREATE SCHEMA made_too CREATE VIEW v AS SELECT @set AS v"], "SELECT * FROM made_too.v"),
    (
        [
            (
                "DO $$ BEGIN EXECUTE 'create function made.g() returns text language plpgsql as"
                " $x$ begin set @guc = off; return 1; end $x$'; END $$"
            )
        ],
        "SELECT made.g()",
    ),
    (
        [
            (
                "DO $d$ BEGIN CREATE FUNCTION made.h() RETURNS text LANGUAGE sql AS"
                " $$ SELECT @set $$; END $d$"
            )
        ],
        "SELECT made.h()",
    ),
    (
        [
            "BEGIN",
            "CREATE FUNCTION made.two() RETURNS text LANGUAGE sql AS $$ SELECT @set $$",
            "PREPARE TRANSACTION 'made'",
            "COMMIT PREPARED 'made'",
        ],
        "SELECT made.two()",
    ),
    (
        ["CREATE VIEW made.settings AS SELECT name, setting FROM pg_settings"],
        "UPDATE made.settings SET setting = 'off' WHERE name = '@guc'",
    ),
    (
        [
            (
                "CREATE FUNCTION made.i(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM @set; RETURN n; END $$"
            ),
            "CREATE TABLE made.indexed (a int)",
            "CREATE INDEX ON made.indexed (made.i(a))",
        ],
        "INSERT INTO made.indexed VALUES (1)",
    ),
    (
        [
            (
                "CREATE FUNCTION made.valid(text) RETURNS bool LANGUAGE sql AS"
                " $$ SELECT @set IS NOT NULL $$"
            ),
            "CREATE DOMAIN made.dom AS text CHECK (made.valid(value))",
        ],
        "SELECT 'x'::made.dom",
    ),
    (["CREATE DOMAIN made.direct AS text CHECK (@set IS NOT NULL)"], "SELECT 'x'::made.direct"),
    (
        [
            "CREATE DOMAIN made.other AS text CHECK (@set IS NOT NULL)",
            "CREATE TABLE made.domains (a made.other)",
        ],
        "INSERT INTO made.domains VALUES ('x')",
    ),
    (
        [
            "CREATE TABLE made.referred (a int PRIMARY KEY)",
            "CREATE TABLE made.refers (a int REFERENCES made.referred)",
            (
                "CREATE FUNCTION made.emptied() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM @set; RETURN NULL; END $$"
            ),
            ("CREATE TRIGGER t AFTER TRUNCATE ON made.refers EXECUTE FUNCTION made.emptied()"),
        ],
        "TRUNCATE made.referred CASCADE",
    ),
    (
        ["CREATE FUNCTION made.arg(a text DEFAULT @set) RETURNS text LANGUAGE sql AS 'SELECT a'"],
        "SELECT made.arg()",
    ),
    (
        [
            (
                "CREATE FUNCTION made.event() RETURNS event_trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM @set; END $$"
            ),
            "CREATE EVENT TRIGGER made ON ddl_command_end EXECUTE FUNCTION made.event()",
        ],
        "COMMENT ON SCHEMA made IS 'x'",
    ),
]
IMPLIED = [
    (
        [
            "CREATE DOMAIN made.bound AS text CHECK (@set IS NOT NULL)",
            "CREATE TYPE made.span AS RANGE (subtype = made.bound)",
            "CREATE TABLE made.spans (a made.span)",
        ],
        "INSERT INTO made.spans VALUES ('[a,b]')",
    ),
    (
        [
            "CREATE DOMAIN made.into AS text CHECK (@set IS NOT NULL)",
            "SELECT 'x'::made.into AS a INTO made.selected",
        ],
        "INSERT INTO made.selected VALUES ('x')",
    ),
    (
        [
            "CREATE DOMAIN made.explained AS text CHECK (@set IS NOT NULL)",
            "EXPLAIN ANALYZE CREATE TABLE made.shown AS SELECT 'x'::made.explained AS a",
        ],
        "INSERT INTO made.shown VALUES ('x')",
    ),
    (["CREATE VIEW made.seen AS SELECT @set"], "SELECT table_to_xml('made.seen', true, true, '')"),
    (
        [f"CREATE FUNCTION {'é' * 33}() RETURNS text LANGUAGE sql AS $$ SELECT @set $$"],
        f"SELECT {'é' * 33}()",  # Postgres keeps 31 of them
    ),
    (
        [
            "CREATE DOMAIN made.element AS text CHECK (@set IS NOT NULL)",
            "CREATE TABLE made.arrays (a made.element[])",
        ],
        "INSERT INTO made.arrays VALUES (ARRAY['x'])",
    ),
    (
        [
            ("CREATE FUNCTION made.op(text, point) RETURNS text LANGUAGE sql AS $$ SELECT @set $$"),
            "CREATE OPERATOR public.@#@ (leftarg = text, rightarg = point, function = made.op)",
        ],
        "SELECT 'x'::text @#@ '(1,2)'",
    ),
    (
        [
            "CREATE FUNCTION made.cast(point) RETURNS int LANGUAGE sql AS $$SELECT length(@set)$$",
            "CREATE CAST (point AS int) WITH FUNCTION made.cast(point) AS ASSIGNMENT",
            "CREATE TABLE made.casts (a int)",
        ],
        "INSERT INTO made.casts SELECT point(1, 2)",
    ),
]
RENAMED = [
    (
        ["CREATE TABLE made.a (a text DEFAULT @set)", "ALTER TABLE made.a RENAME TO ra"],
        "INSERT INTO made.ra DEFAULT VALUES",
    ),
    (["CREATE VIEW made.b AS SELECT @set", "ALTER VIEW made.b RENAME TO rb"], "TABLE made.rb"),
    (
        [
            "CREATE TABLE made.c (a text CHECK (@set IS NOT NULL))",
            "ALTER TABLE made.c RENAME TO rc",
        ],
        "INSERT INTO made.rc VALUES ('x')",
    ),
    (
        [
            "CREATE FUNCTION made.d() RETURNS text LANGUAGE sql AS $$ SELECT @set $$",
            "ALTER FUNCTION made.d RENAME TO rd",
        ],
        "SELECT made.rd()",
    ),
    (
        [
            "CREATE TABLE made.e (a text) PARTITION BY LIST (a)",
            "CREATE TABLE made.f PARTITION OF made.e DEFAULT",
            "ALTER TABLE made.f ADD CHECK (@set IS NOT NULL)",
            "ALTER TABLE made.e RENAME TO re",
        ],
        "INSERT INTO made.re VALUES ('x')",
    ),
    (
        [
            "CREATE DOMAIN made.g AS text CHECK (@set IS NOT NULL)",
            "CREATE TABLE made.h (a made.g)",
            "ALTER TABLE made.h RENAME TO rh",
        ],
        "INSERT INTO made.rh VALUES ('x')",
    ),
]
PLANS = """
    seqscan indexscan bitmapscan hashjoin mergejoin nestloop sort material hashagg memoize tidscan
    async_append parallel_append parallel_hash partition_pruning indexonlyscan incremental_sort
    gathermerge
""".split()  # noqa: SIM905
SWITCHES = ["geqo", "jit", *(f"enable_{plan}" for plan in PLANS)]


@pytest.mark.parametrize("made", [MADE, RENAMED, IMPLIED], ids=["named", "renamed", "implied"])
def test_what_is_made_through_pgfunnel_is_known_at_once(
    pgfunnel: StartFunnel, start_postgres: StartPostgres, made: list[tuple[list[str], str]]
) -> None:
    upstream = start_postgres(settings={"max_prepared_transactions": "2"})
    upstream.psql("CREATE SCHEMA made")
    funnel = pgfunnel(upstream, default_pool_size=1, query_wait_timeout=2)
    with (
        psycopg.connect(funnel.dsn(), autocommit=True, prepare_threshold=None) as one,
        psycopg.connect(funnel.dsn(), autocommit=True, prepare_threshold=None) as other,
    ):
        for (making, use), guc in zip(made, SWITCHES[: len(made)], strict=True):
            for sql in [*making, "RESET ALL", use]:
                change = f"set_config('{guc}', 'off', false)"
                one.execute(sql.replace("@set", change).replace("@guc", guc))
            assert other.execute(f"SHOW {guc}").fetchone() == ("on",), use
            assert one.execute(f"SHOW {guc}").fetchone() == ("off",), use
            one.execute("RESET ALL")
        one.execute("DROP EVENT TRIGGER IF EXISTS made")


@pytest.mark.parametrize("sweep", ["ANALYZE", "VACUUM FULL", "REINDEX SCHEMA made"])
def test_expressions_that_no_name_shows(
    pgfunnel: StartFunnel, start_postgres: StartPostgres, sweep: str
) -> None:
    upstream = start_postgres()
    upstream.psql(
        "CREATE SCHEMA made; CREATE TABLE made.t (a int); INSERT INTO made.t VALUES (1);"
        "CREATE FUNCTION made.expr(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_lock(7); RETURN n; END $$;"
        "CREATE INDEX ON made.t (made.expr(a))"
    )
    funnel = pgfunnel(upstream, default_pool_size=2, query_wait_timeout=2)
    held = (
        "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    )
    with (
        psycopg.connect(funnel.dsn(), autocommit=True) as one,
        psycopg.connect(funnel.dsn(), autocommit=True) as other,
    ):
        one.execute(sweep)
        for _ in range(3):
            assert one.execute(held).fetchone() == (True,)
            assert other.execute(held).fetchone() == (False,)


@pytest.mark.parametrize("encoding", ["latin1", "utf8", "sjis"])
def test_names_in_the_clients_own_encoding(
    pgfunnel: StartFunnel, start_postgres: StartPostgres, encoding: str
) -> None:
    upstream = start_postgres()
    name = "ソ" if encoding == "sjis" else "né"
    upstream.psql(
        f"CREATE FUNCTION {name}() RETURNS text LANGUAGE sql AS"
        " $$ SELECT set_config('work_mem', '9MB', false) $$"
    )
    funnel = pgfunnel(upstream, default_pool_size=1, query_wait_timeout=2)
    with (
        psycopg.connect(funnel.dsn(), autocommit=True) as one,
        psycopg.connect(funnel.dsn(), autocommit=True) as other,
    ):
        one.execute(f"SET client_encoding = {encoding}")
        one.execute(f"SELECT {name}()")
        for _ in range(2):
            assert other.execute("SHOW work_mem").fetchone() == ("4MB",)
            assert one.execute("SHOW work_mem").fetchone() == ("9MB",)


def test_a_database_that_knows_no_encoding(
    pgfunnel: StartFunnel, start_postgres: StartPostgres
) -> None:
    upstream = start_postgres()
    upstream.psql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    place = {"host": upstream.host, "port": upstream.port}
    funnel = pgfunnel(
        upstream, databases={"ascii": place}, default_pool_size=1, query_wait_timeout=2
    )
    dsn = psycopg.conninfo.make_conninfo(funnel.dsn(), dbname="ascii", client_encoding="latin1")
    with (
        psycopg.connect(dsn, autocommit=True) as one,
        psycopg.connect(dsn, autocommit=True) as other,
    ):
        one.execute("CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1 /* é */'")
        one.execute(
            "CREATE FUNCTION sets() RETURNS text LANGUAGE sql AS"
            " $$ SELECT set_config('work_mem', '9MB', false) /* é */ $$"
        )
        one.execute("CREATE FUNCTION é() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'")
        one.execute("SELECT sets()")
        for _ in range(2):
            assert other.execute("SHOW work_mem").fetchone() == ("4MB",)
            assert one.execute("SHOW work_mem").fetchone() == ("9MB",)
        one.execute("SET my.tag = 'é'")
        one.execute("SET work_mem = '5MB'")
        assert one.execute("SHOW my.tag").fetchone() == ("é",)
    assert "routines_unknown" not in funnel.log()


def test_temporary_where_no_text_says_so(
    pgfunnel: StartFunnel, start_postgres: StartPostgres
) -> None:
    upstream = start_postgres()
    upstream.psql("ALTER ROLE alice SET search_path = 'pg_temp', 'public'")
    upstream.psql(
        "CREATE FUNCTION makes() RETURNS void LANGUAGE sql SET search_path = pg_temp AS"
        " $$ CREATE TABLE made (a int) $$;"
        "CREATE FUNCTION guarded() RETURNS void LANGUAGE sql SECURITY DEFINER"
        " SET search_path = public, pg_temp AS $$ SELECT 1 $$"
    )
    funnel = pgfunnel(upstream, default_pool_size=2, query_wait_timeout=2)
    seen = (
        "SELECT count(*) FROM pg_class WHERE relname = 'made'"
        " AND relnamespace = pg_my_temp_schema()"
    )
    for user, sql, options in (
        ("alice", "CREATE TABLE made AS SELECT 'own' AS a", ""),
        ("", "SELECT makes()", ""),
        ("", "CREATE TABLE made (a int)", "-c search_path=pg_temp,public"),
    ):
        with (
            psycopg.connect(funnel.dsn(user), autocommit=True, options=options) as one,
            psycopg.connect(funnel.dsn(user), autocommit=True) as other,
        ):
            one.execute(sql)
            until(lambda: [pin["reason"] for pin in pins(funnel)] == ["temporary"])
            assert str(pins(funnel)[0]["statement"]).split()[:2] == sql.split()[:2]
            assert other.execute(seen).fetchone() == (0,)
            assert one.execute(seen).fetchone() == (1,)
        until(lambda: pins(funnel) == [])
    with psycopg.connect(funnel.dsn(), autocommit=True) as one:
        one.execute("SELECT guarded()")
    assert "guarded" not in funnel.log()


PARTITIONED = """
CREATE OR REPLACE FUNCTION routines.key_of(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
$$ BEGIN PERFORM set_config('app.who', 'key', false); RETURN i; END $$;
DROP TABLE IF EXISTS routines.keyed;
CREATE TABLE routines.keyed (i int) PARTITION BY RANGE (routines.key_of(i));
CREATE TABLE routines.keyed_low PARTITION OF routines.keyed FOR VALUES FROM (0) TO (10);
GRANT ALL ON routines.keyed TO PUBLIC;
"""


async def test_a_partition_key_is_an_expression(pgfunnel: StartFunnel, postgres: Postgres) -> None:
    postgres.psql(PARTITIONED)
    funnel = pgfunnel(default_pool_size=1)
    async with client(funnel) as one, client(funnel) as other:
        await one.execute("INSERT INTO routines.keyed VALUES (1)")
        assert await who(other) is None
        assert await who(one) == "key"


@pytest.mark.parametrize("cancels", [1, 2])
def test_a_cancel_that_comes_late_does_not_end_the_look_behind_ddl(
    own_postgres: Postgres, pgfunnel: StartFunnel, cancels: int
) -> None:
    """It was meant for the DDL; what that made is known to whoever comes next all the same."""
    funnel = pgfunnel(own_postgres, default_pool_size=1)
    make = (
        "CREATE FUNCTION logs_in() RETURNS text LANGUAGE sql AS"
        " $$ SELECT set_config('app.who', 'one', false) $$"
    )
    with (
        psycopg.connect(own_postgres.dsn) as locker,
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as maker,
    ):
        maker.execute("SELECT 1")
        locker.execute("LOCK TABLE pg_policy IN ACCESS EXCLUSIVE MODE")
        maker.execute(make)
        cancel_who_waits(own_postgres, cancels)
        locker.rollback()
    with (
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as one,
        psycopg.connect(funnel.dsn("alice"), autocommit=True) as other,
    ):
        assert one.execute("SELECT logs_in()").fetchone() == ("one",)
        shown = "SELECT coalesce(current_setting('app.who', true), '')"
        assert other.execute(shown).fetchone() == ("",)
        assert one.execute(shown).fetchone() == ("one",)
