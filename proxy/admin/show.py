"""Every SHOW there is."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from proxy.admin import show_inside, show_pools, show_sockets, show_statistics
from proxy.admin.tables import Table

_TABLES: Final[tuple[Table[Any], ...]] = (
    show_pools.POOLS,
    show_statistics.STATS,
    show_statistics.STATS_TOTALS,
    show_statistics.STATS_AVERAGES,
    show_statistics.TOTALS,
    show_sockets.CLIENTS,
    show_sockets.SERVERS,
    show_sockets.SOCKETS,
    show_sockets.ACTIVE_SOCKETS,
    show_pools.DATABASES,
    show_pools.USERS,
    show_pools.LISTS,
    show_inside.CONFIG,
    show_inside.STATE,
    show_inside.VERSION,
    show_inside.MEM,
    show_inside.DNS_HOSTS,
    show_inside.DNS_ZONES,
    show_pools.PEERS,
    show_pools.PEER_POOLS,
    show_inside.PINS,
    show_inside.PREPARED,
)
TABLES: Final = MappingProxyType({table.name: table for table in _TABLES})
