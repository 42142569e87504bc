"""What must fit together between settings. Each check names the settings it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from proxy.settings.dsn import is_folder
from proxy.settings.model import Settings
from proxy.settings.types import VERIFYING

SYSTEM_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
Found = Iterator[tuple[str, str]]
_WITHOUT_SECRETS: Final = ("trust", "any", "cert", "peer", "hba")


@dataclass(frozen=True)
class Check:
    """Yields (name of the setting, what is wrong and what to change)."""

    looks_at: frozenset[str]
    run: Callable[[Settings], Found]


CHECKS: Final[list[Check]] = []


def check(*names: str) -> Callable[[Callable[[Settings], Found]], Callable[[Settings], Found]]:
    """Register a check; it is left out when one of the settings `names` is itself wrong."""

    def register(run: Callable[[Settings], Found]) -> Callable[[Settings], Found]:
        CHECKS.append(Check(frozenset(names), run))
        return run

    return register


@check("upstream", "databases")
def somewhere_to_go(settings: Settings) -> Found:
    if settings.upstream is None and "databases" not in settings.model_fields_set:
        yield "upstream", "is not set; give postgresql://user:password@host, or add databases"
    for name, entry in settings.databases.items():
        if settings.upstream is None and entry.host is None:
            yield f"databases.{name}", "names no host and there is no upstream; add a host"


@check("peers")
def peers_have_places(settings: Settings) -> Found:
    for name, entry in settings.peers.items():
        if entry.host is None:
            yield f"peers.{name}", "names no host; add a host"


@check("databases")
def console_keeps_its_name(settings: Settings) -> Found:
    if "pgbouncer" in settings.databases:
        words = "is the name of the console; give the database another name and its own as dbname"
        yield "databases.pgbouncer", words


@check("upstream", "databases", "auth_type", "auth_file", "auth_user")
def somebody_can_log_in(settings: Settings) -> Found:
    known = settings.upstream_user()
    served = settings.upstream or settings.databases
    if not served or settings.auth_type in _WITHOUT_SECRETS or settings.auth_file:
        return
    if (known and known[1]) or settings.looks_users_up:
        return
    remedy = "put user and password into upstream, or set auth_file or auth_user"
    yield "auth_type", f"is {settings.auth_type} but no user has a secret; {remedy}"


@check("auth_type", "auth_hba_file")
def rules_are_there(settings: Settings) -> Found:
    if settings.auth_type == "hba" and settings.auth_hba_file is None:
        yield "auth_type", "is hba; set auth_hba_file, the file with its rules"


@check("auth_type", "upstream", "databases")
def anybody_logs_in_as_somebody(settings: Settings) -> Found:
    if settings.auth_type != "any":
        return
    for name, entry in settings.databases.items():
        if entry.user is None:
            yield f"databases.{name}", "names no user, which auth_type any needs; add user"
    if settings.upstream is not None:
        remedy = "write its databases as databases.NAME with host and user instead"
        yield (
            "upstream",
            f"cannot go with auth_type any, where clients' names mean nothing; {remedy}",
        )


@check("auth_type", "client_tls_sslmode", "client_tls_ca_file")
def certificates_can_be_asked_for(settings: Settings) -> Found:
    if settings.auth_type != "cert":
        return
    if settings.client_tls_sslmode == "disable":
        yield "auth_type", "is cert and client_tls_sslmode is disable; set it to verify-full"
    elif not settings.client_tls_ca_file:
        yield "auth_type", "is cert; set client_tls_ca_file, the authorities of the certificates"


@check("auth_type", "unix_socket_dir")
def peers_have_a_socket(settings: Settings) -> Found:
    if settings.auth_type == "peer" and not settings.unix_socket_dir:
        yield "auth_type", "is peer, which works on unix sockets only; set unix_socket_dir"


@check("listen_addr", "unix_socket_dir")
def somewhere_to_listen(settings: Settings) -> Found:
    if not settings.listen_addresses and not settings.unix_socket_dir:
        yield "listen_addr", "is empty and so is unix_socket_dir; set one of the two"


@check("listen_addr", "listen_port", "http_addr", "http_port")
def ports_differ(settings: Settings) -> Found:
    if settings.http_port <= 0 or settings.http_port != settings.listen_port:
        return
    everywhere = {"*", "", "0.0.0.0", "::"}
    taken = set(settings.listen_addresses)
    if taken and (settings.http_addr in taken | everywhere or taken & everywhere):
        yield "http_port", f"is {settings.http_port}, as is listen_port; change one of the two"


@check("client_tls_sslmode", "client_tls_key_file", "client_tls_cert_file", "client_tls_ca_file")
def client_tls_is_whole(settings: Settings) -> Found:
    key, cert = settings.client_tls_key_file, settings.client_tls_cert_file
    mode = settings.client_tls_sslmode
    yield from _pair("client", bool(key), bool(cert))
    if mode != "disable" and not key and not cert:
        yield (
            "client_tls_sslmode",
            (f"is {mode}; set client_tls_key_file and client_tls_cert_file, or disable it"),
        )
    if mode in VERIFYING and not settings.client_tls_ca_file:
        yield "client_tls_sslmode", f"is {mode}; set client_tls_ca_file, which it needs"


@check("server_tls_key_file", "server_tls_cert_file")
def server_tls_is_whole(settings: Settings) -> Found:
    yield from _pair(
        "server", bool(settings.server_tls_key_file), bool(settings.server_tls_cert_file)
    )


def _pair(side: str, key: bool, cert: bool) -> Found:
    if key and not cert:
        yield f"{side}_tls_key_file", f"has no certificate; set {side}_tls_cert_file too"
    if cert and not key:
        yield f"{side}_tls_cert_file", f"has no key; set {side}_tls_key_file too"


@check("server_tls_sslmode", "server_tls_sslnegotiation", "upstream", "databases")
def direct_needs_tls(settings: Settings) -> Found:
    if settings.server_tls_sslnegotiation != "direct":
        return
    for where, sslmode, unix in _servers(settings):
        if not unix and sslmode not in ("require", *VERIFYING):
            text = f"is direct and sslmode is {sslmode} for {where}; set it to require or more"
            yield "server_tls_sslnegotiation", text


def _servers(settings: Settings) -> Iterator[tuple[str, str, bool]]:
    """Where servers are opened: the setting, its sslmode, whether over a unix socket."""
    upstream = settings.upstream
    if upstream is not None:
        sslmode = upstream.sslmode or settings.server_tls_sslmode
        yield "upstream", sslmode, is_folder(upstream.host)
    for name in settings.databases:
        target = settings.target(name)
        if target is not None:
            yield f"databases.{name}", target.sslmode, is_folder(target.host)


@check("server_tls_sslmode", "server_tls_ca_file")
def servers_can_be_verified(settings: Settings) -> Found:
    yield from _needs_ca(settings, "server_tls_sslmode", settings.server_tls_sslmode)


@check("upstream", "server_tls_ca_file")
def upstream_can_be_verified(settings: Settings) -> Found:
    if settings.upstream is not None:
        yield from _needs_ca(settings, "upstream", settings.upstream.sslmode)


@check("databases", "server_tls_ca_file")
def databases_can_be_verified(settings: Settings) -> Found:
    for name, entry in settings.databases.items():
        yield from _needs_ca(settings, f"databases.{name}", entry.sslmode)


def _needs_ca(settings: Settings, name: str, sslmode: str | None) -> Found:
    if sslmode in VERIFYING and settings.server_tls_ca_file is None:
        text = f"asks for sslmode {sslmode}; set server_tls_ca_file, such as {SYSTEM_CA}"
        yield name, text


@check("event_loop")
def loop_is_installed(settings: Settings) -> Found:
    if settings.event_loop == "uvloop" and find_spec("uvloop") is None:
        yield "event_loop", "is uvloop, which is not installed; install it or set auto"
