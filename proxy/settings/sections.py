"""Every setting, declared once: name, type, default, unit, whether it reloads, one sentence.

Names and meanings are PgBouncer's wherever PgBouncer has the setting.
"""

from __future__ import annotations

from pydantic import BaseModel

from proxy.settings.databases import Databases, PeerNumber, Peers, Users
from proxy.settings.types import (
    AUTH_QUERY,
    Account,
    AuthType,
    BufferSize,
    Ciphers,
    Count,
    Curve,
    EventLoop,
    FileMode,
    Folder,
    Group,
    LogFormat,
    LogLevel,
    Milliseconds,
    NewFile,
    Period,
    PoolMode,
    Port,
    PortOrOff,
    Positive,
    ReadableFile,
    Seconds,
    SessionPolicy,
    Share,
    SslMode,
    SslNegotiation,
    Statement,
    Switch,
    SyslogFacility,
    TlsProtocols,
    Upstream,
    Words,
    setting,
)


class Postgres(BaseModel):
    """Which Postgres"""

    upstream: Upstream = setting(
        None, "The Postgres to serve; without a database in it, any database name.", secret=True
    )
    databases: Databases = setting(
        {}, "Databases with a place or limits of their own; `*` is any other name."
    )
    users: Users = setting({}, "Users with limits of their own.")


class Listening(BaseModel):
    """Where clients connect"""

    listen_addr: str = setting(
        "127.0.0.1",
        "Addresses, separated by commas; * is all, empty is no TCP; the log names those that cannot"
        " be had.",
        reload=False,
    )
    listen_port: Port = setting(6432, "TCP port for clients, 0 for a free one.", reload=False)
    listen_backlog: Positive = setting(
        1024, "Connections that the kernel queues before they are accepted.", reload=False
    )
    unix_socket_dir: Folder = setting(
        "",
        "Folder of the unix socket, or empty.",
        reload=False,
        differs="a folder that is not there is an error",
    )
    unix_socket_mode: FileMode = setting(
        0o777, "File permissions of the unix socket.", reload=False
    )
    unix_socket_group: Group = setting("", "Group that owns the unix socket.", reload=False)
    so_reuseport: bool = setting(
        default=False, doc="Let several processes listen on the same port.", reload=False
    )
    peer_id: PeerNumber = setting(
        0, "The number of this process among its peers; 0 is none: it has no peers then."
    )
    peers: Peers = setting({}, "The other processes behind the same address, by their numbers.")
    tcp_defer_accept: Switch = setting(
        default=False,
        doc="Accept a TCP connection only when its first bytes are there.",
        reload=False,
    )


class Login(BaseModel):
    """Who may come in"""

    auth_type: AuthType = setting(
        "scram-sha-256", "How clients prove who they are.", differs="see below for each"
    )
    auth_file: ReadableFile = setting(
        None,
        "Users and their secrets, in the format of PgBouncer's userlist.txt.",
        differs="one that cannot be read is an error: there, nobody of it comes in",
    )
    auth_hba_file: ReadableFile = setting(
        None,
        "With auth_type hba: the rules that say who may come in from where, and how.",
        differs="a line that is not understood is an error, and so is none with auth_type hba",
    )
    auth_ident_file: ReadableFile = setting(
        None, "Maps from names of certificates and Unix users to users, for auth_hba_file."
    )
    auth_user: str = setting(
        "",
        "Users that auth_file does not have are looked up in Postgres, logged in as this one.",
        differs="its password must be known in plain (auth_file, or the database's own)",
    )
    auth_query: Statement = setting(
        AUTH_QUERY,
        "The query that looks up name and secret of user $1.",
        differs="the name that it returns must be the one that was asked for",
    )
    auth_dbname: str = setting(
        "", "The database, as clients call it, where auth_query runs; empty is the client's."
    )
    auth_query_cache: Seconds = setting(
        5.0,
        "What auth_query found is believed for this long; a refused login forgets it.",
        unit="s",
    )
    client_login_timeout: Seconds = setting(
        60.0, "A client that has not logged in by then is closed; 0 is no limit.", unit="s"
    )
    application_name_add_host: bool = setting(
        default=False,
        doc="Add the client's address and port to its application_name.",
        differs="over a unix socket the address is `unix`",
    )
    max_unauthenticated: Positive = setting(
        1000, "Peers that may be connected without having logged in.", unit="clients"
    )
    login_notify_message: str = setting("", "Told to each client by a NOTICE once it is in.")
    disable_pqexec: bool = setting(
        default=False,
        doc="Refuse simple queries: only the extended protocol is served.",
        reload=False,
        differs="the console takes them all the same",
    )
    ignore_startup_parameters: Words = setting(
        (),
        "Startup parameters that are accepted and not passed on.",
        differs="others are passed on to Postgres, not refused",
    )


class Pools(BaseModel):
    """Pools and bounds"""

    pool_mode: PoolMode = setting(
        "transaction", "When a client gives its server back: at the end of what."
    )
    default_pool_size: Positive = setting(
        20, "Servers that a pool, one user on one database, may have.", unit="servers"
    )
    min_pool_size: Count = setting(
        0,
        "Servers that a pool keeps open even when idle; never more than its size.",
        unit="servers",
        differs="holds from a pool's first client on, also when the last has left",
    )
    reserve_pool_size: Count = setting(
        0, "Further servers for a pool whose clients wait too long.", unit="servers"
    )
    reserve_pool_timeout: Seconds = setting(
        5.0, "A client that has waited this long may use the reserve; 0 is no reserve.", unit="s"
    )
    max_db_connections: Count = setting(
        0, "Servers for one database, over all users; 0 is no limit.", unit="servers"
    )
    max_user_connections: Count = setting(
        0, "Servers for one user, over all databases; 0 is no limit.", unit="servers"
    )
    max_client_conn: Count = setting(
        10000,
        "Clients that may be connected; one more is refused, with 0 all but operators.",
        unit="clients",
    )
    max_db_client_connections: Count = setting(
        0, "Clients that may be connected to one database; 0 is no limit.", unit="clients"
    )
    max_user_client_connections: Count = setting(
        0, "Clients that may be connected as one user; 0 is no limit.", unit="clients"
    )
    max_waiters: Count = setting(
        0, "Clients that may wait for a server; 0 is as many as max_client_conn.", unit="clients"
    )
    query_wait_timeout: Seconds = setting(
        120.0, "A client that has waited this long is refused; 0 is no limit.", unit="s"
    )
    query_wait_notify: Seconds = setting(
        5.0, "A client that has waited this long is told so by a NOTICE; 0 is never.", unit="s"
    )
    server_round_robin: bool = setting(
        default=False, doc="Lend the server that was idle longest instead of the latest."
    )
    pool_idle_timeout: Seconds = setting(
        0.0, "A pool without clients and servers for this long is forgotten; 0 is never.", unit="s"
    )
    autodb_idle_timeout: Seconds = setting(
        3600.0,
        "As pool_idle_timeout, for databases that have no entry of their own in `databases`.",
        unit="s",
    )
    max_prepared_statements: Count = setting(
        200,
        "Prepared statements kept on each server; with 0 each is prepared anew for every use.",
        unit="statements",
    )


class Servers(BaseModel):
    """Connections to Postgres"""

    server_lifetime: Seconds = setting(
        3600.0,
        "An unused server older than this is closed; with 0, as soon as a client has had it.",
        unit="s",
        differs="shortened by up to a tenth, so that servers do not end together",
    )
    server_idle_timeout: Seconds = setting(
        600.0, "A server unused for this long is closed; 0 is no limit.", unit="s"
    )
    server_connect_timeout: Seconds = setting(
        15.0, "A login at Postgres that takes longer is given up; 0 is no limit.", unit="s"
    )
    server_login_retry: Seconds = setting(
        15.0,
        "The longest pause between two tries to log in after a failure.",
        unit="s",
        differs="a pause is a quarter of the time that it has failed for, from 0.1 s up to this;"
        " clients are told after upstream_grace",
    )
    max_server_logins: Positive = setting(
        8, "Logins that run side by side at one Postgres.", unit="servers"
    )
    upstream_grace: Seconds = setting(
        5.0, "While Postgres is down, clients wait this long before they get its error.", unit="s"
    )
    server_check_delay: Seconds = setting(
        30.0, "A server unused for longer is checked before it is lent.", unit="s"
    )
    server_check_query: Statement = setting(
        "select 1", "The statement of that check; empty is no check."
    )
    server_reset_query: Statement = setting(
        "DISCARD ALL",
        "Sent when a client gives a server back, in session pooling only.",
    )
    server_reset_query_always: bool = setting(
        default=False,
        doc="Send server_reset_query in all pool modes.",
        differs="what a client has set and prepared follows it all the same; there it is lost",
    )
    server_fast_close: bool = setting(
        default=False,
        doc="In session pooling, close a server that is to go without waiting for its client.",
        differs="where a client is pinned, too",
    )
    dns_max_ttl: Seconds = setting(
        15.0,
        "Time between two looks at where the host names of servers lead; 0 is never.",
        unit="s",
        differs="each new connection asks the system's resolver anyhow",
    )


class Clients(BaseModel):
    """Time limits of clients"""

    query_timeout: Seconds = setting(
        0.0,
        "A query that runs longer is cancelled and its client closed; 0 is no limit.",
        unit="s",
        differs="waiting for a server does not count, and the server is kept",
    )
    transaction_timeout: Seconds = setting(
        0.0,
        "A transaction that takes longer is rolled back and its client closed; 0 is no limit.",
        unit="s",
    )
    cancel_wait_timeout: Seconds = setting(
        10.0, "A cancel request that takes longer is given up; 0 is no limit.", unit="s"
    )
    client_idle_timeout: Seconds = setting(
        0.0, "A client that does nothing for this long is closed; 0 is no limit.", unit="s"
    )
    idle_transaction_timeout: Seconds = setting(
        0.0, "A client idle for this long inside a transaction is closed; 0 is no limit.", unit="s"
    )


class Sessions(BaseModel):
    """Session state in transaction pooling"""

    session_policy: SessionPolicy = setting(
        (),
        "What to do about session state, by condition: pin, reject or ignore;"
        " replay for parameters, prepared and sequences.",
    )
    session_audit: Share = setting(
        0.0, "Share of the servers given back that are asked whether they are really clean."
    )
    session_catalog_interval: Seconds = setting(
        60.0,
        "How often Postgres is asked which of a database's own functions, triggers and views change"
        " sessions; 0 is never.",
        unit="s",
    )
    pin_idle_timeout: Seconds = setting(
        300.0,
        "A pinned client that is idle for this long is closed when others wait; 0 is no limit.",
        unit="s",
    )


class Sockets(BaseModel):
    """Sockets"""

    read_buffer: BufferSize = setting(
        65536, "The most that is read from a socket at once.", unit="bytes", reload=False
    )
    tcp_keepalive: bool = setting(default=True, doc="Ask the kernel to notice peers that are gone.")
    tcp_keepidle: Count = setting(
        0, "Silence before the first keepalive probe; 0 is the system's.", unit="s"
    )
    tcp_keepintvl: Count = setting(
        0, "Time between two keepalive probes; 0 is the system's.", unit="s"
    )
    tcp_keepcnt: Count = setting(
        0, "Unanswered probes until a peer counts as gone; 0 is the system's.", unit="probes"
    )
    tcp_socket_buffer: Count = setting(
        0, "Size of the kernel's buffers of each connection; 0 is the system's.", unit="bytes"
    )
    tcp_user_timeout: Milliseconds = setting(
        0, "How long sent bytes may stay unacknowledged; 0 is the system's.", unit="ms"
    )


class Tls(BaseModel):
    """TLS"""

    client_tls_sslmode: SslMode = setting("disable", "Whether clients may, or must, use TLS.")
    client_tls_key_file: ReadableFile = setting(None, "Private key shown to clients.")
    client_tls_cert_file: ReadableFile = setting(None, "Certificate shown to clients.")
    client_tls_ca_file: ReadableFile = setting(None, "Authorities that vouch for clients.")
    client_tls_protocols: TlsProtocols = setting(
        "secure",
        "Versions of TLS that clients may use.",
        differs="no version in the middle can be left out",
    )
    client_tls_ciphers: Ciphers = setting("default", "Ciphers that clients may use, up to TLS 1.2.")
    client_tls_ecdhcurve: Curve = setting(
        "auto", "Curve for the exchange of keys with clients.", differs="none is refused"
    )
    server_tls_sslmode: SslMode = setting(
        "prefer",
        "Whether Postgres is spoken to over TLS; sslmode in a DSN comes first.",
        differs="allow tries without TLS first, then with, as libpq does",
    )
    server_tls_key_file: ReadableFile = setting(None, "Private key shown to Postgres.")
    server_tls_cert_file: ReadableFile = setting(None, "Certificate shown to Postgres.")
    server_tls_ca_file: ReadableFile = setting(None, "Authorities that vouch for Postgres.")
    server_tls_protocols: TlsProtocols = setting(
        "secure",
        "Versions of TLS to use with Postgres.",
        differs="no version in the middle can be left out",
    )
    server_tls_ciphers: Ciphers = setting("default", "Ciphers to use with Postgres, up to TLS 1.2.")
    server_tls_sslnegotiation: SslNegotiation = setting(
        "postgres",
        "How TLS with Postgres begins: after a request, or direct (PostgreSQL 17 or later).",
    )


class Outside(BaseModel):
    """Metrics, health, the page and logs"""

    http_addr: str = setting("127.0.0.1", "Address of the HTTP port.", reload=False)
    http_port: PortOrOff = setting(
        9127,
        "Port of metrics and health, 0 for a free one, -1 or off for none; a default that is taken"
        " is done without.",
        reload=False,
    )
    http_page: bool = setting(
        default=True, doc="Serve a page on the HTTP port that shows what goes on.", reload=False
    )
    quitquitquit: bool = setting(
        default=False,
        doc="Drain and end at POST /quitquitquit on the HTTP port, from loopback.",
        reload=False,
    )
    log_format: LogFormat = setting("text", "How a log line is written.")
    syslog: bool = setting(default=False, doc="Send the log to the system's log, too.")
    syslog_ident: str = setting("pgfunnel", "What the system's log calls this program.")
    syslog_facility: SyslogFacility = setting("daemon", "The system log's facility.")
    log_level: LogLevel = setting(
        "info", "The least important lines that are written.", differs="above 0 is debug"
    )
    log_connections: bool = setting(default=True, doc="One line when a client or server connects.")
    log_disconnections: bool = setting(
        default=True, doc="One line, with the reason, when it closes."
    )
    log_pooler_errors: bool = setting(
        default=True, doc="One line for each error of ours that a client is told."
    )
    log_stats: bool = setting(default=True, doc="One line of statistics every stats_period.")
    stats_period: Period = setting(60.0, "Time between two lines of statistics.", unit="s")
    logfile: NewFile = setting(
        "",
        "File for the log, instead of stderr; opened anew at SIGHUP.",
        differs="the log goes there alone, not to stderr too",
    )


class Console(BaseModel):
    """The console"""

    admin_users: Words = setting(
        (), "Users who may log in to the database `pgbouncer` and give any command there."
    )
    stats_users: Words = setting((), "Users who may look at everything there, and change nothing.")


class Running(BaseModel):
    """The program itself"""

    drain_timeout: Seconds = setting(
        30.0, "After SIGTERM, transactions have this long to finish.", unit="s"
    )
    pidfile: NewFile = setting("", "File that holds the process id while it runs.", reload=False)
    run_as: Account = setting(
        "",
        "Unix user to change to before anything is opened; only root can.",
        reload=False,
        pgbouncer="user",
    )
    event_loop: EventLoop = setting(
        "auto", "Which loop runs; auto is uvloop where it is installed.", reload=False
    )


SECTIONS: tuple[type[BaseModel], ...] = (
    Postgres,
    Listening,
    Login,
    Pools,
    Servers,
    Clients,
    Sessions,
    Sockets,
    Tls,
    Outside,
    Console,
    Running,
)
