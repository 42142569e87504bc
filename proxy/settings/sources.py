"""Where values come from: options, environment, file. Each knows how to name its origin."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import copy
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from proxy.errors import SettingsError
from proxy.settings.model import Settings

PREFIX: Final = "PGFUNNEL_"
NOT_SETTINGS: Final = ("PGFUNNEL_CONFIG", "PGFUNNEL_PURE")
_LINK_NAME: Final = re.compile(
    r"(_|^)(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")


class Source(PydanticBaseSettingsSource):
    """Values by the name of their setting, from one place.

    `problems`: what is wrong there besides the values; `notes`: what was understood and is
    worth saying; `unused`: settings without effect.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unused: Mapping[str, str] = MappingProxyType({})

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(Settings)
        self.values = dict(values)

    def __call__(self) -> dict[str, Any]:
        return self.values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self.values.get(field_name), field_name, False

    def without(self, names: set[str]) -> Self:
        """The same place, but for `names`."""
        rest = copy(self)
        rest.values = {name: v for name, v in self.values.items() if name not in names}
        return rest

    def origin(self, path: tuple[str, ...]) -> str:
        """In words, where the value at `path` was given; the first part is a setting's name."""
        raise NotImplementedError


class Options(Source):
    """Values of the command line."""

    def origin(self, path: tuple[str, ...]) -> str:
        return f"option --{path[0].replace('_', '-')}"


class Environment(Source):
    """Variables that start with PGFUNNEL_."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(
            {
                name.removeprefix(PREFIX).lower(): value
                for name, value in environ.items()
                if name.startswith(PREFIX) and name not in NOT_SETTINGS
                if not is_service_link(name, value)
            }
        )

    def origin(self, path: tuple[str, ...]) -> str:
        return f"environment variable {PREFIX}{path[0].upper()}"


class File(Source):
    """A TOML file; its top-level keys are settings."""

    def __init__(self, file: Path) -> None:
        self.file = file
        super().__init__(read_toml(file))

    def origin(self, path: tuple[str, ...]) -> str:
        return f"file {self.file}, key {'.'.join(path)}"


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes set this variable, for a Service called pgfunnel or pgfunnel-….

    Kubernetes documentation, "Accessing the Service", environment variables: PGFUNNEL_PORT and
    PGFUNNEL_SERVICE_HOST appear in every pod of the namespace.
    """
    rest = name.removeprefix(PREFIX)
    is_port = rest == "PORT" or rest.endswith("_PORT")
    return bool(_LINK_NAME.search(rest) or (is_port and _LINK_VALUE.match(value)))


def read_toml(file: Path) -> dict[str, Any]:
    """The tables of `file`; SettingsError if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise SettingsError([f"file {file}: cannot be read ({why}); correct the path"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"file {file}: is not UTF-8; save it as UTF-8"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"file {file}: is not TOML: {error}; correct that line"]) from None


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write instead of `name`: the nearest of `known`."""
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else "remove it, or see `pgfunnel settings`"
