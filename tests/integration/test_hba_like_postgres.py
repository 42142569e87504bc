"""HBA lines mean to us what they mean to Postgres: its view pg_hba_file_rules says what it read."""

from __future__ import annotations

from proxy.auth.hba import parse_hba
from tests.postgres import Postgres

LINES = r"""
local all all peer map=people
local all , all trust
host  db1,db2   "a, b" , 10.0.0.0/8 md5
host db1, "db""2" al"l" 10.0.0.0/8 scram-sha-256
host "x",y sameuser 10.0.0.0 255.255.0.0 password # "comment
hostssl "all",replication @users ::1/128 cert
hostnossl all all all \
  reject
host "Sp ace"more u\
ser all trust
"""
SQL = """
SELECT line_number, type, database, user_name, nullif(address, 'all'), netmask, auth_method
FROM pg_hba_file_rules ORDER BY 1
"""


def test_as_postgres_reads_them(own_postgres: Postgres) -> None:
    server = own_postgres.server
    assert server is not None
    folder = server.socket_dir / "data"
    (folder / "users").write_text('alice\n"bob, jr"')
    (folder / "pg_hba.conf").write_text(LINES)
    theirs = own_postgres.psql(SQL)
    ours = [
        (
            rule.line,
            rule.type,
            [word.text for word in rule.databases],
            [word.text for word in rule.users],
            str(rule.network.network_address) if rule.network else None,
            str(rule.network.netmask) if rule.network else None,
            rule.method,
        )
        for rule in parse_hba(LINES, "hba", lambda name: (folder / name).read_text())
    ]
    assert ours == theirs
