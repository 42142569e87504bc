"""Every setting of pgfunnel: declared once, read from options, environment and a file."""

from proxy.settings.databases import DatabaseSettings, Limits, Target, UserSettings
from proxy.settings.dsn import Dsn, parse_dsn
from proxy.settings.loader import Understood, load, understand
from proxy.settings.model import Change, Settings, diff

__all__ = [
    "Change",
    "DatabaseSettings",
    "Dsn",
    "Limits",
    "Settings",
    "Target",
    "Understood",
    "UserSettings",
    "diff",
    "load",
    "parse_dsn",
    "understand",
]
