"""Sessions that move from server to server, compared with such that do not."""

from __future__ import annotations

import pytest

from tests.conftest import StartFunnel
from tests.integration.twins import Twins


@pytest.mark.parametrize(
    "start, sql",
    [
        ({"standard_conforming_strings": "off"}, "SET standard_conforming_strings = on"),
        ({"timezone": "Asia/Tokyo"}, "SELECT set_config('timezone', reset_val, false) FROM d"),
        ({"my.tag": "x"}, "SET my.tag = ''"),
        ({"role": "bob"}, "SET ROLE none"),
        ({"work_mem": "5MB"}, "SET work_mem = '4MB'"),
    ],
)
def test_what_is_set_to_the_servers_default_is_set(
    pgfunnel: StartFunnel, start: dict[str, str], sql: str
) -> None:
    funnel = pgfunnel(default_pool_size=2)
    upstream = funnel.upstream
    upstream.psql("GRANT bob TO alice")
    ((default,),) = upstream.psql("SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
    sql = sql.replace("reset_val", f"'{default}'").replace(" FROM d", "")
    (name,) = start
    with Twins(funnel) as twins:
        twins.connect("one", **start)
        twins.ask("one", sql)
        twins.ask("other", "BEGIN")  # on the server that was used last
        twins.ask("one", "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$")
        twins.ask("one", f"SHOW {name}")
        twins.ask("other", "COMMIT")
        for again in (f"SHOW {name}", f"RESET {name}", f"SHOW {name}"):
            twins.ask("one", again)
