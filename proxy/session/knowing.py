"""What holds for one client, and what it was told of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cython

from proxy.conditions import TEMP
from proxy.session.lexer import width
from proxy.session.parameters import NONE, USUAL_PATH

if cython.compiled:
    from cython.cimports.proxy.session.parameters import Parameters
else:
    from proxy.session.parameters import Parameters

NOTHING_MORE: dict[str, str] = {}


@cython.cclass
class Knowing:
    """A session in its parameters.

    `startup` are those it came with (and those that sessions began with when it came and do no
    more), `parameters` those that hold now (`follow`), with its prepared statements of SQL: of
    those it came with also what is as by default; `by_default`: what it asked for and is in
    neither, since sessions had it anyway; `defaults`: what the server says they are without
    anybody's doing; `told`: what its client was told last of those that it began with, where that
    is something else.

    `path`: its search_path where it sets none; `backslashes`: standard_conforming_strings is off;
    `wide`: `proxy.session.lexer.width` of its client_encoding; `watches`: conditions that are asked
    about at each boundary.
    """

    startup: Parameters
    parameters: Parameters
    defaults: dict[bytes, bytes]
    path: str
    told: dict[bytes, bytes]
    by_default: dict[str, str]

    def __init__(
        self, startup: Parameters = NONE, defaults: dict[bytes, bytes] | None = None
    ) -> None:
        self.startup = startup
        self.defaults = {} if defaults is None else defaults
        self.by_default = NOTHING_MORE
        self.path = USUAL_PATH
        self.told = {}
        self.follow(startup)

    @cython.ccall
    def follow(self, parameters: Parameters) -> object:
        """These parameters hold from now on."""
        self.parameters = parameters
        strings = self.defaults.get(b"standard_conforming_strings", b"")
        encoding = self.defaults.get(b"client_encoding", b"")
        self.backslashes, self.wide, self.watches = _reading(parameters, strings, encoding)
        return None

    @cython.ccall
    def began_with(self, name: str) -> cython.bint:
        """Whether RESET leads to a value of its own, not to the server's default."""
        return name in self.startup.values

    def outlive(self, former: Mapping[str, str], begins: Mapping[str, str]) -> None:
        """Sessions begin otherwise from now on; what this one began with it goes on with.

        That is what its client was told, or else `former`.
        """
        told = {name.decode().lower(): value.decode() for name, value in self.defaults.items()}
        began = {n: told[n] for n in former if n in told and told[n] != begins.get(n)}
        began.update({n: value for n, value in former.items() if n not in told})
        self._begin_with(began)

    def _begin_with(self, values: Mapping[str, str]) -> None:
        """It began with these, as it turns out."""
        own = {n: value for n, value in values.items() if n not in self.startup.values}
        unset = {n: value for n, value in own.items() if n not in self.parameters.values}
        self.startup = self.startup.with_values(own)
        self.follow(self.parameters.with_values(unset))

    def hear(self, defaults: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """What the server reports without anybody's doing is this now; what its client must hear.

        Not what it has set itself, nor its application_name.
        """
        before = self.defaults
        self.defaults = defaults
        now = {name.decode().lower(): value.decode() for name, value in defaults.items()}
        self._begin_with({n: value for n, value in self.by_default.items() if now.get(n) != value})
        self.follow(self.parameters)
        own = self.parameters.values
        news = {
            name: value
            for name, value in defaults.items()
            if before.get(name) != value
            and name != b"application_name"
            and name.decode().lower() not in own
        }
        return {**news, **self.unheard(defaults)}

    @cython.ccall
    def heard(self, name: bytes, value: bytes) -> object:
        """The client hears of a parameter that it has not begun with, as far as that is known."""
        if self.by_default and _key(name) in self.by_default:
            self.told[name] = value
        return None

    def unheard(self, reported: Iterable[bytes]) -> dict[bytes, bytes]:
        """What the client must hear, of what Postgres tells of, for it to know what holds now."""
        now = {name: self._now(name) for name in reported if self.began_with(_key(name))}
        news = {n: v for n, v in now.items() if v is not None and v != self._heard(n)}
        self.told.update(news)
        return news

    def is_at_default(self, name: str) -> bool:
        """Whether it is set to the server's default: RESET changes nothing that Postgres tells."""
        own = self.parameters.values.get(name)
        return own is not None and any(
            _key(n) == name and value == own.encode() for n, value in self.defaults.items()
        )

    @cython.cfunc
    def _heard(self, name: bytes) -> bytes:
        told = self.told.get(name)
        return self.startup.values[_key(name)].encode() if told is None else told

    @cython.cfunc
    def _now(self, name: bytes) -> bytes | None:
        own = self.parameters.values.get(_key(name))
        return self.defaults.get(name) if own is None else own.encode()


def _key(name: bytes) -> str:
    """The name of a parameter as Postgres reports it, as one of `Parameters`."""
    return name.decode("utf-8", "replace").lower()


def _reading(parameters: Parameters, strings: bytes, encoding: bytes) -> tuple[bool, int, int]:
    """How a client's text is read (backslashes, wide), and what is asked at each boundary.

    `strings`, `encoding`: the server's own standard_conforming_strings and client_encoding.
    """
    values = parameters.values
    backslashes = values.get("standard_conforming_strings", strings.decode()) == "off"
    wide = width(values.get("client_encoding", encoding.decode()))
    # There, plain CREATE TABLE makes temporary tables.
    watches = TEMP if "pg_temp" in values.get("search_path", "") else 0
    return backslashes, wide, watches
