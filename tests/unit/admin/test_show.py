"""The tables of SHOW have PgBouncer 1.25's columns: names, order and types."""

from __future__ import annotations

import struct

import pytest

from proxy.admin.show import TABLES
from proxy.admin.tables import INT4, INT8, NUMERIC, TEXT, Type

_TYPES = {"s": TEXT, "i": INT4, "q": INT8, "N": NUMERIC}
_SOCKET = (
    "s type user database replication state addr i port s local_addr i local_port"
    " s connect_time request_time i wait wait_us close_needed s ptr link i remote_pid"
    " s tls application_name i prepared_statements id"
)
_LOW_LEVEL = " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail"
_ALONE = (
    "s database N server_assignment_count xact_count query_count bytes_received bytes_sent"
    " xact_time query_time wait_time client_parse_count server_parse_count bind_count"
)
# A letter is the type of what follows, up to the next letter.
PGBOUNCER = {
    "POOLS": "s database user i cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req"
    " sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait"
    " maxwait_us s pool_mode load_balance_hosts",
    "STATS": "s database N total_server_assignment_count total_xact_count total_query_count"
    " total_received total_sent total_xact_time total_query_time total_wait_time"
    " total_client_parse_count total_server_parse_count total_bind_count"
    " avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time"
    " avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count",
    "STATS_TOTALS": _ALONE,
    "STATS_AVERAGES": "s database N server_assignment_count xact_count query_count bytes_received"
    " bytes_sent xact_time query_time wait_time avg_client_parse_count avg_server_parse_count"
    " avg_bind_count",
    "TOTALS": "s name N value",
    "CLIENTS": _SOCKET,
    "SERVERS": _SOCKET,
    "SOCKETS": _SOCKET + _LOW_LEVEL,
    "ACTIVE_SOCKETS": _SOCKET + _LOW_LEVEL,
    "DATABASES": "s name host i port s database force_user i pool_size min_pool_size"
    " reserve_pool_size server_lifetime s pool_mode load_balance_hosts i max_connections"
    " current_connections max_client_connections current_client_connections paused disabled",
    "USERS": "s name pool_size reserve_pool_size pool_mode i max_user_connections"
    " current_connections max_user_client_connections current_client_connections",
    "LISTS": "s list i items",
    "CONFIG": "s key value default changeable",
    "STATE": "s key value",
    "VERSION": "s version",
    "MEM": "s name i size used free memtotal",
    "DNS_HOSTS": "s hostname q ttl s addrs",
    "DNS_ZONES": "s zonename q serial i count",
    "PEERS": "i peer_id s host i port pool_size",
    "PEER_POOLS": "i peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
}


def declared(name: str) -> list[tuple[str, Type]]:
    columns, now = [], TEXT
    for word in PGBOUNCER[name].split():
        if word in _TYPES:
            now = _TYPES[word]
        else:
            columns.append((word, now))
    return columns


@pytest.mark.parametrize("name", PGBOUNCER)
def test_columns_are_pgbouncers(name: str) -> None:
    assert [(column.name, column.type) for column in TABLES[name].columns] == declared(name)


def test_the_others_are_our_own() -> None:
    assert TABLES.keys() - PGBOUNCER.keys() == {"PINS", "PREPARED"}


def test_every_column_says_what_it_is() -> None:
    assert not [c for table in TABLES.values() for c in table.columns if not c.doc or "|" in c.doc]


def test_the_head_is_a_row_description() -> None:
    head = TABLES["LISTS"].head()
    assert head[:1] == b"T"
    assert struct.unpack_from("!IH", head, 1) == (len(head) - 1, 2)
    fields = head[7:].split(b"\0", 1)
    assert fields[0] == b"list"
    assert struct.unpack_from("!IhIhih", fields[1]) == (0, 0, 25, -1, -1, 0)
