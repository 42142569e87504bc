"""Rules that say who may come in from where, and how: PgBouncer's `auth_hba_file`.

The format is that of pg_hba.conf (PostgreSQL documentation, section 20.1) as far as PgBouncer
takes it ("HBA file format"): the first rule whose type, address, database and user fit decides,
and who fits none is refused. What Postgres knows and is not understood here is an error, never
passed over: a rule that is left out could let somebody in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from proxy.auth.rule_lines import Field, Word, fields_of, words_of
from proxy.errors import SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ReadFile = Callable[[str], str]

TYPES: Final = ("local", "host", "hostssl", "hostnossl")
METHODS: Final = ("trust", "reject", "password", "md5", "scram-sha-256", "cert", "peer")
_OTHER_NAMES: Final = MappingProxyType({"plain": "password"})
_MAPPED: Final = ("cert", "peer")
_CERTIFICATES: Final = ("verify-ca", "verify-full")
_MAX_NAMES: Final = 10_000
_DEPTH: Final = 10


@dataclass(frozen=True, slots=True)
class Attempt:
    """A client that asks to come in; `address` is None on a unix socket.

    `replication` means physical replication: it names no database (PostgreSQL documentation,
    section 55.4).
    """

    database: str
    user: str
    address: Address | None = None
    tls: bool = False
    replication: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. `network` is None for any address; `line` counts from 1."""

    type: str
    databases: tuple[Word, ...]
    users: tuple[Word, ...]
    network: Network | None
    method: str
    options: Mapping[str, str] = field(default_factory=dict)
    line: int = 0

    def fits(self, attempt: Attempt) -> bool:
        """Whether the rule speaks of this client."""
        return (
            self._fits_way(attempt)
            and any(_is_database(word, attempt) for word in self.databases)
            and any(word.means("all") or word.text == attempt.user for word in self.users)
        )

    def _fits_way(self, attempt: Attempt) -> bool:
        if attempt.address is None or self.type == "local":
            return attempt.address is None and self.type == "local"
        if self.type != "host" and attempt.tls is not (self.type == "hostssl"):
            return False
        return self.network is None or plain(attempt.address) in self.network


def decide(rules: Iterable[Rule], attempt: Attempt) -> Rule | None:
    """The first rule that fits; None: there is none, and the client is refused."""
    return next((rule for rule in rules if rule.fits(attempt)), None)


def plain(address: Address) -> Address:
    """An IPv4 address that came as IPv6 (RFC 4291, 2.5.5.2) as what it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_hba(text: str, source: str, read: ReadFile) -> tuple[Rule, ...]:
    """The rules of a file; `source` is its name in error messages.

    `read` gives the text of a file named as `@name`, which the documentation wants relative to
    the folder of `source`; it may raise OSError. Raises SettingsError that names every bad line.
    """
    rules: list[Rule] = []
    problems: list[str] = []
    for number, found in fields_of(text):
        try:
            if isinstance(found, ValueError):
                raise found
            rules.append(_rule(found, number, read))
        except ValueError as problem:
            problems.append(f"{source}:{number}: {problem}")
    if problems:
        raise SettingsError(problems)
    return tuple(rules)


def _rule(fields: list[Field], number: int, read: ReadFile) -> Rule:
    kind = _one(fields[0], "type")
    _check_type(kind)
    if len(fields) < 3:
        raise ValueError("names no database or no user; write type, database, user, ..., method")
    databases = _names(fields[1], read, _check_database)
    users = _names(fields[2], read, _check_user)
    network, rest = (None, fields[3:]) if kind == "local" else _network(fields[3:])
    if not rest:
        raise ValueError(f"has no method at its end; give one of {', '.join(METHODS)}")
    method = _method(_one(rest[0], "method"), kind)
    return Rule(kind, databases, users, network, method, _options(rest[1:], method, kind), number)


def _one(words: Field, what: str) -> str:
    if len(words) != 1:
        raise ValueError(f"has a list where the {what} belongs; give one {what}")
    return words[0].text


def _check_type(kind: str) -> None:
    if kind in TYPES:
        return
    if kind.startswith("include"):
        raise ValueError(f"{kind} is not supported; put the rules into this file")
    raise ValueError(f'"{kind}" is not a type of connection; give one of {", ".join(TYPES)}')


# -- names ---------------------------------------------------------------------------------


def _names(words: Field, read: ReadFile, check: Callable[[str], None]) -> tuple[Word, ...]:
    names = list(_spelled_out(words, read, 0))
    for word in names:
        if not word.quoted:
            check(word.text)
    return tuple(names)


def _spelled_out(words: Iterable[Word], read: ReadFile, depth: int) -> list[Word]:
    """The words, files of names replaced by what is in them. Raises ValueError."""
    names: list[Word] = []
    for word in words:
        if word.quoted or not word.text.startswith("@"):
            names.append(word)
        elif depth >= _DEPTH:
            raise ValueError(f"{word.text} leads through more than {_DEPTH} files")
        else:
            names += _spelled_out(_file_of_names(word.text, read), read, depth + 1)
        if len(names) > _MAX_NAMES:
            raise ValueError(f"names more than {_MAX_NAMES} databases or users")
    return names


def _file_of_names(name: str, read: ReadFile) -> list[Word]:
    try:
        return words_of(read(name[1:]))
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise ValueError(f"{name} cannot be read ({why}); correct the path") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _check_database(name: str) -> None:
    if name in ("samerole", "samegroup"):
        raise ValueError(f"{name} is not supported, groups are not known here; name the databases")
    _check_name(name, "database")


def _check_user(name: str) -> None:
    _check_name(name, "user")


def _check_name(name: str, what: str) -> None:
    if name.startswith("+"):
        raise ValueError(f"{name} is a group, which is not known here; name its users")
    if name.startswith("/"):
        raise ValueError(f"{name} is a regular expression, not supported; name each {what}")


def _is_database(word: Word, attempt: Attempt) -> bool:
    """PostgreSQL documentation, section 20.1: `all` does not match replication."""
    if attempt.replication:
        return word.means("replication")
    if word.means("all"):
        return True
    if word.means("sameuser"):
        return attempt.database == attempt.user
    return not word.means("replication") and word.text == attempt.database


# -- addresses -----------------------------------------------------------------------------


def _network(fields: list[Field]) -> tuple[Network | None, list[Field]]:
    """The addresses, in one field or as address and mask in two, and the fields that follow."""
    if not fields:
        raise ValueError("has no address; give all, or one such as 10.0.0.0/8 or ::1/128")
    text = _one(fields[0], "address")
    if fields[0][0].means("all"):
        return None, fields[1:]
    if "/" in text:
        return _parsed(text), fields[1:]
    _check_address(text)
    if len(fields) < 2:
        raise ValueError(f"has no mask for {text}; write {text}/32 for that address alone")
    mask = _one(fields[1], "mask")
    return _parsed(f"{text}/{_prefix(text, mask)}"), fields[2:]


def _check_address(text: str) -> None:
    if text in ("samehost", "samenet"):
        raise ValueError(f"{text} is not supported; write the addresses, such as 10.0.0.0/8")
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(
            f'"{text}" is not an address (host names are not supported); write 10.0.0.0/8'
        ) from None


def _prefix(address: str, mask: str) -> int:
    """The length of a mask written as an address: 255.255.0.0 is 16."""
    try:
        parsed = ipaddress.ip_address(mask)
    except ValueError:
        raise ValueError(f"has no mask after {address}; write {address}/32 or a mask") from None
    width = parsed.max_prefixlen
    bits = f"{int(parsed):0{width}b}"
    length = bits.count("1")
    if parsed.version != ipaddress.ip_address(address).version or "01" in bits:
        raise ValueError(f"{mask} is not a mask for {address}; write such as {address}/{length}")
    return length


def _parsed(text: str) -> Network:
    length = text.partition("/")[2]
    try:
        if not (length.isascii() and length.isdigit()):
            raise ValueError
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" is not an address range; write such as 10.0.0.0/8') from None


# -- methods -------------------------------------------------------------------------------


def _method(name: str, kind: str) -> str:
    method = _OTHER_NAMES.get(name, name)
    if method not in METHODS:
        raise ValueError(f'"{name}" is not a method here; give one of {", ".join(METHODS)}')
    if method == "peer" and kind != "local":
        raise ValueError("peer works on unix sockets only; write it in a rule of type local")
    if method == "cert" and kind != "hostssl":
        raise ValueError("cert needs TLS; write it in a rule of type hostssl")
    return method


def _options(fields: list[Field], method: str, kind: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for words in fields:
        name, equals, value = _one(words, "option").partition("=")
        if not equals or not value:
            raise ValueError(f'"{name}" is not an option; write name=value')
        if name == "clientcert":
            _check_clientcert(value, method, kind)
        elif name != "map":
            raise ValueError(f"option {name} is not supported; remove it")
        elif method not in _MAPPED:
            raise ValueError(f"option map means nothing for {method}; it goes with cert and peer")
        options[name] = value
    return MappingProxyType(options)


def _check_clientcert(value: str, method: str, kind: str) -> None:
    """PostgreSQL documentation, section 21.12, "Certificate Authentication"."""
    if kind != "hostssl":
        raise ValueError("option clientcert needs TLS; write it in a rule of type hostssl")
    if value not in _CERTIFICATES:
        raise ValueError(f'"{value}" is no clientcert; give one of {", ".join(_CERTIFICATES)}')
    if method == "cert" and value != "verify-full":
        raise ValueError("option clientcert can only be verify-full for cert; remove it")
