"""TLS on both sides, as the settings say."""

from __future__ import annotations

from proxy.relay.tls import TlsFiles, TlsPolicy, client_policy, server_policy
from proxy.settings import Settings
from proxy.settings.types import openssl_ciphers, versions


def _path(value: object) -> str:
    return str(value) if value else ""


def client_tls_policy(settings: Settings) -> TlsPolicy:
    """TLS towards clients. Raises SettingsError naming the file that does not load."""
    return client_policy(
        TlsFiles(
            settings.client_tls_sslmode,
            key=_path(settings.client_tls_key_file),
            cert=_path(settings.client_tls_cert_file),
            ca=_path(settings.client_tls_ca_file),
            versions=versions(settings.client_tls_protocols),
            ciphers=openssl_ciphers(settings.client_tls_ciphers),
            curve=settings.client_tls_ecdhcurve,
        )
    )


def server_tls_policies(settings: Settings) -> dict[str, TlsPolicy]:
    """TLS towards Postgres, by sslmode. Raises SettingsError naming the file that does not load."""
    return {mode: server_policy(_server_tls(settings, mode)) for mode in _server_modes(settings)}


def _server_tls(settings: Settings, mode: str) -> TlsFiles:
    return TlsFiles(
        mode,
        key=_path(settings.server_tls_key_file),
        cert=_path(settings.server_tls_cert_file),
        ca=_path(settings.server_tls_ca_file),
        versions=versions(settings.server_tls_protocols),
        ciphers=openssl_ciphers(settings.server_tls_ciphers),
        direct=settings.server_tls_sslnegotiation == "direct",
    )


def _server_modes(settings: Settings) -> set[str]:
    modes: set[str] = {"disable", settings.server_tls_sslmode}
    if settings.upstream is not None and settings.upstream.sslmode:
        modes.add(settings.upstream.sslmode)
    modes.update(entry.sslmode for entry in settings.databases.values() if entry.sslmode)
    return modes
