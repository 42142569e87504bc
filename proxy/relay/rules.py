"""The gate as the settings and their files say: `auth_type`, `auth_hba_file`, `auth_ident_file`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxy.auth.gate import Gate, gate_for
from proxy.auth.hba import parse_hba
from proxy.auth.ident import IdentMaps, parse_ident
from proxy.errors import SettingsError
from proxy.settings import Settings


def read_gate(settings: Settings) -> Gate:
    """Reads the files anew. Raises SettingsError that names every bad line."""
    if settings.auth_type != "hba" or settings.auth_hba_file is None:
        return gate_for(settings.auth_type)
    file = settings.auth_hba_file
    rules = parse_hba(_text(file), str(file), _reader(file.parent))
    maps = IdentMaps()
    if settings.auth_ident_file is not None:
        maps = parse_ident(_text(settings.auth_ident_file), str(settings.auth_ident_file))
    problems = [f"{file}: {problem}" for problem in maps.missing(rules)]
    wants = any(rule.method == "cert" or "clientcert" in rule.options for rule in rules)
    if wants and (settings.client_tls_sslmode == "disable" or not settings.client_tls_ca_file):
        problems.append(
            f"{file} asks for certificates; set client_tls_sslmode and client_tls_ca_file"
        )
    if problems:
        raise SettingsError(problems)
    return Gate(None, rules, maps)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise SettingsError([f"{file} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{file} is not UTF-8; save it as plain UTF-8 text"]) from None


def _reader(folder: Path) -> Callable[[str], str]:
    return lambda name: (folder / name).read_text("utf-8")
