"""Every setting of pgfunnel: declared once, read from options, environment and a TOML file."""

from proxy.settings.databases import DatabaseSettings, Limits, Target, UserSettings
from proxy.settings.dsn import Dsn, parse_dsn
from proxy.settings.loader import load
from proxy.settings.model import Change, Settings, diff

__all__ = [
    "Change",
    "DatabaseSettings",
    "Dsn",
    "Limits",
    "Settings",
    "Target",
    "UserSettings",
    "diff",
    "load",
    "parse_dsn",
]
