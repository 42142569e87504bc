"""Databases that are dropped or copied: Postgres refuses that while others are in them."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import StartFunnel
from tests.integration.observe import until
from tests.postgres import Postgres


@pytest.fixture
def gone(postgres: Postgres) -> None:
    with psycopg.connect(postgres.dsn, autocommit=True) as admin:
        for name in ("vacated", "vacated_copy", "Vacated Too"):
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def test_servers_that_nobody_has_are_in_nobodys_way(
    pgfunnel: StartFunnel, postgres: Postgres, gone: None
) -> None:
    funnel = pgfunnel(databases={"*": {"host": postgres.host, "port": postgres.port}})
    with psycopg.connect(funnel.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE vacated")
        with psycopg.connect(funnel.dsn(database="vacated"), autocommit=True) as client:
            client.execute("CREATE TABLE t (a int)")
        until(lambda: " closing because: client close" in funnel.log())
        admin.execute("CREATE DATABASE vacated_copy TEMPLATE vacated")
        for name in ("vacated", "vacated_copy"):
            with psycopg.connect(funnel.dsn(database=name), autocommit=True) as client:
                client.execute("INSERT INTO t VALUES (1)")
                if name == "vacated":
                    with pytest.raises(psycopg.errors.ObjectInUse):
                        admin.execute(f"DROP DATABASE {name}")
            until(lambda: funnel.log().count("reason=client_left") > 1)
            admin.execute(f"DROP DATABASE {name}", prepare=name == "vacated")
        admin.execute('CREATE DATABASE "Vacated Too"')
        with psycopg.connect(funnel.dsn(database="Vacated Too"), autocommit=True) as client:
            client.execute("SELECT 1")
        admin.execute('DROP DATABASE IF EXISTS "Vacated Too"')
    assert "reason=vacated" in funnel.log()
