"""Where a database name leads, and which limits hold there."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from proxy.settings import (
    Change,
    DatabaseSettings,
    Limits,
    Settings,
    UserSettings,
    diff,
    parse_dsn,
)
from proxy.settings.types import versions


def settings(upstream: str | None = None, **databases: DatabaseSettings) -> Settings:
    return Settings(upstream=parse_dsn(upstream) if upstream else None, databases=databases)


def test_an_upstream_with_a_database_serves_it_alone() -> None:
    mine = settings("postgresql://u:p@h:5433/app")
    target = mine.target("app")
    assert target is not None
    assert (target.host, target.port, target.dbname) == ("h", 5433, "app")
    assert (target.user, target.password, target.sslmode) == (None, None, "prefer")
    assert mine.target("other") is None


def test_an_upstream_without_a_database_serves_any() -> None:
    target = settings("postgresql://h").target("whatever")
    assert target is not None
    assert (target.database, target.dbname, target.port) == ("whatever", "whatever", 5432)


def test_the_sslmode_of_the_dsn_comes_first() -> None:
    target = settings("postgresql://h?sslmode=require").target("x")
    assert target is not None
    assert target.sslmode == "require"


def test_a_unix_socket_has_no_tls() -> None:
    target = settings("postgresql:///?host=/run&sslmode=require").target("x")
    assert target is not None
    assert (target.host, target.sslmode) == ("/run", "disable")


def test_the_upstreams_user() -> None:
    assert settings("postgresql://u:p%40@h").upstream_user() == ("u", "p@")
    assert settings("postgresql://u@h").upstream_user() == ("u", None)
    assert settings("postgresql://h").upstream_user() is None
    assert settings().upstream_user() is None


def test_an_entry_inherits_the_upstreams_place() -> None:
    mine = settings(
        "postgresql://u:p@h:5433/app?sslmode=require", reports=DatabaseSettings(dbname="app2")
    )
    target = mine.target("reports")
    assert target is not None
    assert (target.host, target.port, target.dbname) == ("h", 5433, "app2")
    assert (target.sslmode, target.user) == ("require", None)


def test_an_entry_with_its_own_host_inherits_no_port_and_no_sslmode() -> None:
    mine = settings(
        "postgresql://u:p@h:5433/app?sslmode=require", other=DatabaseSettings(host="h2")
    )
    target = mine.target("other")
    assert target is not None
    assert (target.host, target.port, target.sslmode) == ("h2", 5432, "prefer")


def test_a_forced_user() -> None:
    entry = DatabaseSettings(host="h", user="app", password=SecretStr("hush"))
    target = settings(None, db=entry).target("db")
    assert target is not None
    assert (target.user, target.password) == ("app", "hush")
    assert "hush" not in repr(target)


@pytest.mark.parametrize(
    "database, host", [("named", "named"), ("app", "upstream"), ("other", "star")]
)
def test_what_comes_first(database: str, host: str) -> None:
    entries = {"named": DatabaseSettings(host="named"), "*": DatabaseSettings(host="star")}
    target = settings("postgresql://upstream/app", **entries).target(database)
    assert target is not None
    assert target.host == host


def test_a_star_comes_before_an_upstream_that_serves_any() -> None:
    target = settings("postgresql://upstream", **{"*": DatabaseSettings(host="star")}).target("x")
    assert target is not None
    assert (target.host, target.dbname) == ("star", "x")


def test_no_place_no_target() -> None:
    assert settings().target("x") is None
    assert settings(None, db=DatabaseSettings()).target("db") is None


def test_limits_of_all() -> None:
    mine = settings("postgresql://h")
    target = mine.target("x")
    assert target is not None
    assert mine.limits(target, "u") == Limits("transaction", 20, 0, 0, 0, 0, 3600.0, 120.0)


def test_a_user_comes_before_a_database_before_all() -> None:
    entry = DatabaseSettings(
        host="h",
        pool_mode="session",
        pool_size=7,
        min_pool_size=0,
        reserve_pool_size=2,
        max_db_connections=9,
        server_lifetime=60,
        query_wait_timeout=10,
    )
    mine = Settings(
        databases={"db": entry},
        users={
            "u": UserSettings(
                pool_mode="statement",
                pool_size=3,
                reserve_pool_size=1,
                max_user_connections=4,
                query_wait_timeout=0,
            )
        },
        min_pool_size=5,
        max_user_connections=6,
    )
    target = mine.target("db")
    assert target is not None
    assert mine.limits(target, "u") == Limits("statement", 3, 0, 1, 9, 4, 60, 0)
    assert mine.limits(target, "v") == Limits("session", 7, 0, 2, 9, 6, 60, 10)


def test_diff_names_what_changed_and_what_needs_a_restart() -> None:
    old = settings("postgresql://u:p@h")
    assert diff(old, old) == []
    new = Settings(
        upstream=parse_dsn("postgresql://u:p2@h"),
        listen_port=7000,
        default_pool_size=5,
        databases={"db": DatabaseSettings(pool_size=1)},
    )
    assert diff(old, new) == [
        Change("upstream", restart=False),
        Change("databases", restart=False),
        Change("listen_port", restart=True),
        Change("default_pool_size", restart=False),
    ]


@pytest.mark.parametrize(
    "text, addresses",
    [
        ("", ()),
        ("*", ("*",)),
        ("127.0.0.1", ("127.0.0.1",)),
        ("::1, 10.0.0.1", ("::1", "10.0.0.1")),
    ],
)
def test_addresses(text: str, addresses: tuple[str, ...]) -> None:
    assert Settings(listen_addr=text).listen_addresses == addresses


def test_settings_are_frozen_and_read_nothing_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGFUNNEL_DEFAULT_POOL_SIZE", "3")
    monkeypatch.setenv("DEFAULT_POOL_SIZE", "3")
    mine = Settings()
    assert mine.default_pool_size == 20
    with pytest.raises(ValueError, match="frozen"):
        mine.default_pool_size = 1


def test_where_users_are_looked_up() -> None:
    own_way = {"auth_user": "other", "auth_dbname": "own", "auth_query": "x"}
    settings = Settings(
        auth_user="looker",
        auth_dbname="keys",
        databases={
            "keys": DatabaseSettings(host="k"),
            "app": DatabaseSettings(host="a"),
            "own": DatabaseSettings.model_validate({"host": "o", **own_way}),
            "none": DatabaseSettings(host="n", auth_user=""),
            "lost": DatabaseSettings(host="l", auth_dbname="nowhere"),
        },
    )
    found = settings.auth_lookup("app")
    assert found is not None
    assert (found.user, found.target.host, found.query) == ("looker", "k", settings.auth_query)
    own = settings.auth_lookup("own")
    assert own is not None
    assert (own.user, own.target.host, own.query) == ("other", "o", "x")
    for database in ("none", "lost", "nowhere"):
        assert settings.auth_lookup(database) is None


@pytest.mark.parametrize(
    "words, expected",
    [
        ("secure", ("tlsv1.2", "tlsv1.3")),
        ("all", ("tlsv1.0", "tlsv1.3")),
        ("tlsv1.1:tlsv1.2", ("tlsv1.1", "tlsv1.2")),
        ("tlsv1, tlsv1.1", ("tlsv1.0", "tlsv1.1")),
        ("tlsv1.3", ("tlsv1.3", "tlsv1.3")),
    ],
)
def test_versions_of_tls(words: str, expected: tuple[str, str]) -> None:
    assert versions(words) == expected
