"""The types that settings have: what is accepted, and how it is described in one phrase."""

from __future__ import annotations

import grp
import pwd
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr
from pydantic.fields import FieldInfo

from proxy.conditions import CHOICES, CONDITIONS
from proxy.settings.dsn import Dsn, parse_dsn

VERIFYING: Final = ("verify-ca", "verify-full")
TLS_VERSIONS: Final = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")
AUTH_QUERY: Final = (
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END"
    " FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
)
"""PgBouncer's own: a password that is not valid any more is none."""


@dataclass(frozen=True)
class Kind:
    """How a value is described to a reader: "a whole number, 0 or more"."""

    words: str


@dataclass(frozen=True)
class Declared:
    """What a setting's declaration says besides its type and default.

    `pgbouncer` is PgBouncer's name for it where that is another one, `differs` what it does
    otherwise than PgBouncer's.
    """

    doc: str
    reload: bool
    unit: str
    secret: bool
    pgbouncer: str
    differs: str


def setting(
    default: Any,
    doc: str,
    *,
    reload: bool = True,
    unit: str = "",
    secret: bool = False,
    pgbouncer: str = "",
    differs: str = "",
) -> Any:
    """Declare a setting: its default, one sentence, and whether a SIGHUP changes it.

    A name is given by the attribute, a type by its annotation (one of this module's).
    """
    declared = Declared(doc, reload, unit, secret, pgbouncer, differs)
    return Field(default=default, description=doc, json_schema_extra={"declared": declared})  # type: ignore[dict-item]


def declared(field: FieldInfo) -> Declared:
    """What `setting()` was told about `field`."""
    extra: Any = field.json_schema_extra
    found: Declared = extra["declared"]
    return found


def kind(field: FieldInfo) -> str:
    """The phrase for what `field` accepts."""
    return next(_phrases(field.annotation, field.metadata), "text")


def printed(field: FieldInfo, value: object) -> str:
    """`value` as it is written in a TOML file, empty if there is none."""
    return _toml(value, octal="octal" in kind(field))


def _toml(value: Any, *, octal: bool = False) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if octal:
        return f"0o{value:o}"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    if isinstance(value, str | Path):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _phrases(annotation: Any, metadata: list[Any]) -> Iterator[str]:
    yield from (known.words for known in metadata if isinstance(known, Kind))
    if get_origin(annotation) is Literal:
        yield f"one of {', '.join(get_args(annotation))}"
    if annotation is bool:
        yield "true or false"
    for part in get_args(annotation):
        yield from _phrases(part, list(getattr(part, "__metadata__", ())))


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is true or false; give a number")
    return value


def _octal(value: object) -> object:
    if not isinstance(value, str):
        return value
    digits = value.removeprefix("0o")
    if not digits or set(digits) - set("01234567"):
        raise ValueError("is not an octal number; give file permissions such as 0770")
    return int(digits, 8)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _switch(value: object) -> object:
    """Any number but 0 switches on what PgBouncer counts and has one value for."""
    return int(value) != 0 if isinstance(value, str) and value.isdecimal() else value


def _off(value: object) -> object:
    return -1 if value == "off" else value


def _verbosity(value: object) -> object:
    """PgBouncer's verbose counts."""
    if isinstance(value, str) and value.isdecimal():
        return "debug" if int(value) else "info"
    return value


def _method(value: object) -> object:
    if value in ("ldap", "pam"):
        raise ValueError(f"is {value}, which pgfunnel does not have; use auth_file or auth_query")
    return "password" if value == "plain" else value


def _protocols(value: str) -> str:
    versions(value)
    return value


def versions(value: str) -> tuple[str, str]:
    """The oldest and the newest of the protocols that PgBouncer's words allow."""
    wanted = {"secure": "tlsv1.2,tlsv1.3", "default": "tlsv1.2,tlsv1.3", "all": "", "legacy": ""}
    names = re.split("[,:]", wanted.get(value, value) or ",".join(TLS_VERSIONS))
    known = ["tlsv1.0" if name.strip() == "tlsv1" else name.strip() for name in names]
    if set(known) - set(TLS_VERSIONS):
        raise ValueError(f"does not name protocols; give secure, all or {','.join(TLS_VERSIONS)}")
    places = sorted(TLS_VERSIONS.index(name) for name in known)
    if places[-1] - places[0] + 1 != len(set(places)):
        raise ValueError("leaves out a version between two others; name that one too")
    return TLS_VERSIONS[places[0]], TLS_VERSIONS[places[-1]]


def _ciphers(value: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(openssl_ciphers(value))
    except ssl.SSLError:
        raise ValueError("names no cipher that OpenSSL knows; give default or correct it") from None
    return value


def openssl_ciphers(value: str) -> str:
    """PgBouncer's shortcuts as OpenSSL calls them."""
    shortcuts = {"secure": "DEFAULT", "fast": "DEFAULT", "normal": "DEFAULT", "all": "ALL"}
    return {"default": "DEFAULT", **shortcuts}.get(value.lower(), value)


def _curve(value: str) -> str:
    if value.lower() == "none":
        raise ValueError("is none, which TLS 1.3 cannot be without; give auto or a curve")
    if value.lower() == "auto":
        return "auto"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(value)
    except (ValueError, ssl.SSLError):
        raise ValueError("is not a curve that OpenSSL knows; give auto or prime256v1") from None
    return value


def _words(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _dsn(value: object) -> Dsn | None:
    if isinstance(value, Dsn):
        return value
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError("is not text; write postgresql://user:password@host")
    return parse_dsn(value)


def _without_password(dsn: Dsn) -> str:
    return str(dsn)


def _path(value: object) -> object:
    return value or None


def _readable(path: Path | None) -> Path | None:
    if path is None:
        return None
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        remedy = "correct the path or its permissions"
        raise ValueError(f"{path} cannot be read ({why}); {remedy}") from None


def _folder(value: str) -> str:
    if value and not value.startswith("@") and not Path(value).is_dir():
        raise ValueError(f"{value} is not a folder; create it or correct the path")
    return value


def _placed(value: str) -> str:
    if value and not Path(value).absolute().parent.is_dir():
        raise ValueError(f"{value} is in no folder; create it or correct the path")
    return value


def _group(value: str) -> str:
    try:
        if value:
            grp.getgrnam(value)
    except KeyError:
        words = f"{value} is not a group of this machine; create it or correct the name"
        raise ValueError(words) from None
    return value


def _account(value: str) -> str:
    try:
        if value:
            pwd.getpwnam(value)
    except KeyError:
        words = f"{value} is not a user of this machine; create it or correct the name"
        raise ValueError(words) from None
    return value


def _policy(value: object) -> object:
    words = _words(value)
    if isinstance(words, dict):
        words = tuple(f"{condition}={choice}" for condition, choice in words.items())
    if not isinstance(words, tuple | list):
        return words
    for word in words:
        _check_choice(str(word))
    return tuple(words)


def _check_choice(word: str) -> None:
    known = {condition.word: condition for condition in CONDITIONS}
    condition, _, choice = word.partition("=")
    if condition not in known:
        raise ValueError(f"has no condition {condition!r}; there are {', '.join(known)}")
    choices = [c for c in CHOICES if c != "replay" or known[condition].replayed]
    if choice not in choices:
        raise ValueError(f"says {word!r}; write {condition}= and one of {', '.join(choices)}")


ANY_CASE: Final = BeforeValidator(_lower)
"""Words to choose from are taken in upper case, too, as PgBouncer takes them."""
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0), Kind("a whole number, 0 or more")]
Switch = Annotated[bool, BeforeValidator(_switch), Kind("true or false")]
Positive = Annotated[int, BeforeValidator(_no_bool), Field(ge=1), Kind("a whole number, 1 or more")]
Seconds = Annotated[
    float,
    BeforeValidator(_no_bool),
    Field(ge=0, allow_inf_nan=False),
    Kind("a number of seconds, 0 or more"),
]
Period = Annotated[
    float,
    BeforeValidator(_no_bool),
    Field(gt=0, allow_inf_nan=False),
    Kind("a number of seconds, more than 0"),
]
Port = Annotated[
    int,
    BeforeValidator(_no_bool),
    Field(ge=0, le=65535),
    Kind("a port from 1 to 65535, or 0 for a free one"),
]
PortOrOff = Annotated[
    int,
    BeforeValidator(_no_bool),
    BeforeValidator(_off),
    ANY_CASE,
    Field(ge=-1, le=65535),
    Kind("a port from 1 to 65535, 0 for a free one, or off"),
]
FileMode = Annotated[
    int,
    BeforeValidator(_no_bool),
    BeforeValidator(_octal),
    Field(ge=0, le=0o777),
    Kind("octal file permissions such as 0770"),
]
BufferSize = Annotated[
    int,
    BeforeValidator(_no_bool),
    Field(ge=1024, le=16 * 1024 * 1024),
    Kind("a number of bytes from 1024 to 16777216"),
]
Milliseconds = Annotated[
    int,
    BeforeValidator(_no_bool),
    Field(ge=0),
    Kind("a whole number of milliseconds, 0 or more"),
]
Statement = Annotated[str, Kind("an SQL statement, or empty for none")]
Share = Annotated[
    float,
    BeforeValidator(_no_bool),
    Field(ge=0, le=1, allow_inf_nan=False),
    Kind("a number from 0 to 1"),
]
SessionPolicy = Annotated[
    tuple[str, ...],
    BeforeValidator(_policy),
    Kind("condition=choice, separated by commas; see docs/safety.md"),
]
Words = Annotated[tuple[str, ...], BeforeValidator(_words), Kind("names, separated by commas")]
Upstream = Annotated[
    Dsn | None,
    BeforeValidator(_dsn),
    PlainSerializer(_without_password, when_used="json-unless-none"),
    Kind("postgresql://user:password@host:port/database"),
]
ReadableFile = Annotated[
    Path | None,
    BeforeValidator(_path),
    AfterValidator(_readable),
    Kind("the path of a readable file"),
]
Folder = Annotated[str, AfterValidator(_folder), Kind("the path of a folder, or empty for none")]
NewFile = Annotated[
    str, AfterValidator(_placed), Kind("the path of a file to write, or empty for none")
]
Group = Annotated[str, AfterValidator(_group), Kind("a group of this machine, or empty")]
Account = Annotated[str, AfterValidator(_account), Kind("a user of this machine, or empty")]
Secret = Annotated[SecretStr, Kind("text")]

AuthType = Annotated[
    Literal["trust", "password", "md5", "scram-sha-256", "any", "cert", "peer", "hba"],
    BeforeValidator(_method),
    ANY_CASE,
    Kind("one of trust, password (also called plain), md5, scram-sha-256, any, cert, peer, hba"),
]
TlsProtocols = Annotated[
    str,
    AfterValidator(_protocols),
    ANY_CASE,
    Kind("secure, all, or versions from tlsv1.0 to tlsv1.3 separated by commas"),
]
Ciphers = Annotated[
    str, AfterValidator(_ciphers), Kind("default, all, or a list of ciphers as OpenSSL writes it")
]
Curve = Annotated[str, AfterValidator(_curve), Kind("auto, or the name of an elliptic curve")]
SslNegotiation = Annotated[Literal["postgres", "direct"], ANY_CASE]
PoolMode = Annotated[Literal["session", "transaction", "statement"], ANY_CASE]
SslMode = Annotated[
    Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"], ANY_CASE
]
HostChoice = Annotated[Literal["round-robin", "disable"], ANY_CASE]
SessionAttrs = Annotated[Literal["any", "read-write", "read-only", "primary", "standby"], ANY_CASE]
SyslogFacility = Annotated[
    Literal[
        "auth",
        "authpriv",
        "daemon",
        "user",
        "local0",
        "local1",
        "local2",
        "local3",
        "local4",
        "local5",
        "local6",
        "local7",
    ],
    ANY_CASE,
]
LogFormat = Annotated[Literal["text", "json"], ANY_CASE]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    BeforeValidator(_verbosity),
    ANY_CASE,
    Kind("one of debug, info, warning, error"),
]
EventLoop = Annotated[Literal["auto", "uvloop", "asyncio"], ANY_CASE]
