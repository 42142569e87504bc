"""What PgBouncer 1.25 can be told, and what becomes of it here.

Facts of its documentation (config.md, usage.md): names and defaults. What is declared in
`proxy.settings` under the same name (or a name given there as `pgbouncer=`) has the same meaning;
what is in `IGNORED` is accepted and said to be without effect unless it is at its default, where
it asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from proxy.settings.sections import SECTIONS
from proxy.settings.types import AUTH_QUERY, declared, printed

SOCKET_FOLDER: Final = "/tmp"  # noqa: S108
# Setting: default, as text; "" is not set.
GLOBAL: Final = MappingProxyType(
    {
        "logfile": "",
        "pidfile": "",
        "listen_addr": "",
        "listen_port": "6432",
        "unix_socket_dir": SOCKET_FOLDER,
        "unix_socket_mode": "0777",
        "unix_socket_group": "",
        "user": "",
        "pool_mode": "session",
        "max_client_conn": "100",
        "default_pool_size": "20",
        "min_pool_size": "0",
        "reserve_pool_size": "0",
        "reserve_pool_timeout": "5",
        "max_db_connections": "0",
        "max_db_client_connections": "0",
        "max_user_connections": "0",
        "max_user_client_connections": "0",
        "server_round_robin": "0",
        "track_extra_parameters": "IntervalStyle",
        "ignore_startup_parameters": "",
        "peer_id": "0",
        "disable_pqexec": "0",
        "application_name_add_host": "0",
        "conffile": "",
        "service_name": "pgbouncer",
        "job_name": "pgbouncer",
        "stats_period": "60",
        "max_prepared_statements": "200",
        "scram_iterations": "4096",
        "auth_type": "md5",
        "auth_hba_file": "",
        "auth_ident_file": "",
        "auth_file": "",
        "auth_user": "",
        "auth_query": AUTH_QUERY,
        "auth_dbname": "",
        "auth_ldap_options": "",
        "syslog": "0",
        "syslog_ident": "pgbouncer",
        "syslog_facility": "daemon",
        "log_connections": "1",
        "log_disconnections": "1",
        "log_pooler_errors": "1",
        "log_stats": "1",
        "verbose": "0",
        "admin_users": "",
        "stats_users": "",
        "server_reset_query": "DISCARD ALL",
        "server_reset_query_always": "0",
        "server_check_delay": "30",
        "server_check_query": "<empty>",
        "server_fast_close": "0",
        "server_lifetime": "3600",
        "server_idle_timeout": "600",
        "server_connect_timeout": "15",
        "server_login_retry": "15",
        "client_login_timeout": "60",
        "autodb_idle_timeout": "3600",
        "pool_idle_timeout": "0",
        "dns_max_ttl": "15",
        "dns_nxdomain_ttl": "15",
        "dns_zone_check_period": "0",
        "resolv_conf": "",
        "query_wait_notify": "5",
        "login_notify_message": "",
        "client_tls_sslmode": "disable",
        "client_tls_key_file": "",
        "client_tls_cert_file": "",
        "client_tls_ca_file": "",
        "client_tls_protocols": "secure",
        "client_tls_ciphers": "default",
        "client_tls13_ciphers": "",
        "client_tls_ecdhcurve": "auto",
        "client_tls_dheparams": "auto",
        "server_tls_sslmode": "prefer",
        "server_tls_ca_file": "",
        "server_tls_key_file": "",
        "server_tls_cert_file": "",
        "server_tls_protocols": "secure",
        "server_tls_ciphers": "default",
        "server_tls13_ciphers": "",
        "query_timeout": "0",
        "query_wait_timeout": "120",
        "cancel_wait_timeout": "10",
        "client_idle_timeout": "0",
        "idle_transaction_timeout": "0",
        "transaction_timeout": "0",
        "suspend_timeout": "10",
        "pkt_buf": "4096",
        "max_packet_size": "2147483647",
        "listen_backlog": "128",
        "sbuf_loopcnt": "5",
        "so_reuseport": "0",
        "tcp_defer_accept": "1",
        "tcp_socket_buffer": "",
        "tcp_keepalive": "1",
        "tcp_keepcnt": "",
        "tcp_keepidle": "",
        "tcp_keepintvl": "",
        "tcp_user_timeout": "0",
    }
)
DATABASE: Final = MappingProxyType(
    {
        "dbname": "",
        "host": "",
        "port": "5432",
        "user": "",
        "password": "",
        "auth_user": "",
        "auth_query": "",
        "auth_dbname": "",
        "pool_size": "",
        "min_pool_size": "",
        "reserve_pool_size": "",
        "reserve_pool": "",
        "connect_query": "",
        "pool_mode": "",
        "query_wait_timeout": "-1",
        "load_balance_hosts": "round-robin",
        "target_session_attrs": "any",
        "max_db_connections": "",
        "max_db_client_connections": "",
        "server_lifetime": "",
        "client_encoding": "",
        "datestyle": "",
        "timezone": "",
        "application_name": "",
    }
)
USER: Final = MappingProxyType(
    {
        "pool_size": "",
        "reserve_pool_size": "",
        "pool_mode": "",
        "max_user_connections": "",
        "query_timeout": "0",
        "query_wait_timeout": "-1",
        "idle_transaction_timeout": "0",
        "transaction_timeout": "0",
        "client_idle_timeout": "0",
        "max_user_client_connections": "",
    }
)
# Where PgBouncer's file is silent about these, its defaults hold here too: who may come in, and
# from where.
AS_THERE: Final = ("listen_addr", "unix_socket_dir", "auth_type")
PEER: Final = MappingProxyType({"host": "", "port": "6432", "pool_size": ""})
TABLES: Final = MappingProxyType({"databases": DATABASE, "users": USER, "peers": PEER})

# Accepted without effect: it makes no sense here.
IGNORED: Final = MappingProxyType(
    {
        "track_extra_parameters": "every parameter that Postgres reports is followed",
        "conffile": "the file is named on the command line",
        "service_name": "there is no Windows service",
        "job_name": "there is no Windows service",
        "scram_iterations": "secrets are never made here, only read",
        "auth_ldap_options": "there is no LDAP: auth_type ldap is refused",
        "dns_nxdomain_ttl": "the system's resolver is asked for each connection",
        "dns_zone_check_period": "the system's resolver is asked for each connection",
        "resolv_conf": "the system's resolver is asked; its own configuration holds",
        "suspend_timeout": "there is no takeover by a new process",
        "pkt_buf": "set read_buffer; it is shared by all connections",
        "max_packet_size": "messages are passed on in pieces and never held whole",
        "sbuf_loopcnt": "a connection is read once per turn, at most read_buffer",
        "client_tls_dheparams": "OpenSSL chooses",
        "client_tls13_ciphers": "Python's ssl leaves TLS 1.3's to OpenSSL; see its openssl.cnf",
        "server_tls13_ciphers": "Python's ssl leaves TLS 1.3's to OpenSSL; see its openssl.cnf",
    }
)
# What these say in [databases] and [users] means: as everywhere else.
INHERITED: Final = MappingProxyType(
    {
        "query_wait_timeout": "-1",
        "query_timeout": "0",
        "transaction_timeout": "0",
        "idle_transaction_timeout": "0",
        "client_idle_timeout": "0",
    }
)

_FIELDS = {name: field for section in SECTIONS for name, field in section.model_fields.items()}
# PgBouncer's name for a setting that is called otherwise here.
RENAMED: Final = MappingProxyType(
    {
        declared(field).pgbouncer: name
        for name, field in _FIELDS.items()
        if declared(field).pgbouncer
    }
)
# PgBouncer's setting that counts where ours has words; either takes both.
COUNTS: Final = MappingProxyType({"verbose": "log_level"})
ALIASES: Final = MappingProxyType({"reserve_pool": "reserve_pool_size"})


def setting_of(key: str) -> str | None:
    """The setting that PgBouncer's `key`, or our own name, stands for; None: there is none."""
    name = RENAMED.get(key) or COUNTS.get(key, key)
    return name if name in _FIELDS and name not in TABLES else None


def other_defaults() -> Iterator[tuple[str, str, str]]:
    """(setting, default here, PgBouncer's default) where the two differ."""
    for key, there in GLOBAL.items():
        name = setting_of(key)
        if name is None or key in COUNTS:
            continue
        here = printed(_FIELDS[name], _FIELDS[name].default).strip('"').replace("[]", "")
        if _plain(here.replace("0o", "0")) not in (_plain(there), _plain(there or "0")):
            yield name, here or "not set", there or "not set"


def asks_for_nothing(default: str, value: str) -> bool:
    """Whether `value` is PgBouncer's default."""
    return _plain(value) == _plain(default)


def _plain(value: str) -> str:
    text = {"off": "0", "no": "0", "false": "0", "on": "1", "yes": "1", "true": "1"}.get(
        value.lower(), value
    )
    try:
        return f"{float(text):g}"
    except ValueError:
        return text
