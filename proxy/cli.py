"""The command `pgfunnel`. What a command needs is imported when it runs: starting is cheap."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

from proxy import __version__
from proxy.errors import PgfunnelError, SettingsError

if TYPE_CHECKING:
    from proxy.settings import Understood

OVERVIEW: Final = """\
usage: pgfunnel [COMMAND] [OPTIONS]

A Postgres connection proxy: thousands of short-lived clients on a few servers.
PGFUNNEL_UPSTREAM=postgresql://user:password@host:port/database is enough to run.

commands:
  serve        run the proxy (also when no command is given)
  check        validate the settings and try every upstream
  healthcheck  ask a running pgfunnel whether it is healthy
  top          see what a running pgfunnel does now (the page of http_port, in a terminal)
  demo         see what it does, on an embedded Postgres
  settings     print every setting (--example: a TOML file, --markdown: a page)

  pgfunnel serve pgbouncer.ini   run with PgBouncer's configuration file
  pgfunnel COMMAND --help   the options of a command
  pgfunnel --version        version, and whether the hot modules are compiled
"""

# The declared defaults, repeated for a health check that does not load the settings.
HTTP_ADDR: Final = "127.0.0.1"
HTTP_PORT: Final = 9127
INI: Final = (".ini", ".conf", ".cfg")
REFUSED: Final = MappingProxyType(
    {
        ("-d", "--daemon"): "leave it out; systemd, or `setsid -f`, runs it in the background",
        ("-R", "--reboot"): "leave it out; start another process, with so_reuseport, and stop this",
    }
)
OK: Final = 0
FAILED: Final = 1
MISUSED: Final = 2


class Misused(Exception):
    """The command line cannot be understood; the message says what to change."""


class Refused(argparse.Action):
    """A switch of PgBouncer's that has no use here; its help says what to do instead."""

    def __call__(self, *words: Any, **named: Any) -> NoReturn:
        raise Misused(f"{'/'.join(self.option_strings)} has no use here: {self.help}")


class Parser(argparse.ArgumentParser):
    """Reports misuse as an exception, and never repeats a value, which may be a secret."""

    def __init__(self, prog: str, description: str) -> None:
        usage = f"{prog} [OPTIONS]"
        super().__init__(prog=prog, usage=usage, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise Misused(f"{message}; see `{self.prog} --help`")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Like parse_args, but an unknown option is answered with the nearest known one."""
        known, rest = self.parse_known_args(arguments)
        if not rest:
            return known
        option = rest[0].partition("=")[0]
        if not option.startswith("--"):
            raise Misused(f"one argument too many; settings are options, see `{self.prog} --help`")
        near = get_close_matches(option, self._option_string_actions, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"see `{self.prog} --help`"
        raise Misused(f"{option} is not an option; {remedy}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 misused."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except Misused as error:
        return _complain([str(error)], MISUSED)
    except SettingsError as error:
        return _complain(error.problems, MISUSED)
    except PgfunnelError as error:
        return _complain([f"{error.message} {error.advice}".rstrip()], FAILED)
    except OSError as error:
        return _complain([_os_words(error)], FAILED)
    except KeyboardInterrupt:
        return 130


def _run(words: list[str]) -> int:
    first = words[0] if words else "serve"
    if first in ("--help", "-h", "help"):
        return _say(OVERVIEW.rstrip())
    if first in ("--version", "-V"):
        return _say(version())
    if first in COMMANDS:
        return COMMANDS[first](words[1:])
    if Path(first).is_file():
        return serve(words)
    if not first.startswith("-"):
        near = get_close_matches(first, COMMANDS, n=1)
        raise Misused(
            f"did you mean `pgfunnel {near[0]}`?" if near else "no such command; see `pgfunnel -h`"
        )
    return serve(words)


def _say(text: str, to: TextIO | None = None) -> int:
    (to or sys.stdout).write(f"{text}\n")
    return OK


def _complain(problems: Iterable[str], code: int) -> int:
    for problem in problems:
        _say(f"pgfunnel: {problem}", sys.stderr)
    return code


def _os_words(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def version() -> str:
    """One line: version, compiled or why not, Python."""
    return f"pgfunnel {__version__} ({_build()}, Python {platform.python_version()})"


def _build() -> str:
    from proxy import relay

    if getattr(relay, "compiled", False):
        return "compiled"
    if os.environ.get("PGFUNNEL_PURE") == "1":
        return "pure Python: PGFUNNEL_PURE=1"
    return "pure Python: the compiled modules were not built"


def _settings_parser(command: str, description: str) -> Parser:
    from proxy.settings.reference import options, shown_default
    from proxy.settings.types import declared, kind

    parser = Parser(f"pgfunnel {command}", description)
    _add_config(parser)
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the same as --config")
    _add_switches(parser)
    for title, fields in options():
        group = parser.add_argument_group(title)
        for name, field in fields:
            default = shown_default(field)
            words = f"{declared(field).doc} {kind(field).capitalize()}"
            text = f"{words} (default {default})" if default else words
            group.add_argument(
                f"--{name.replace('_', '-')}",
                dest=name,
                metavar=declared(field).unit.upper() or "VALUE",
                default=argparse.SUPPRESS,
                help=text.replace("%", "%%"),
            )
    return parser


def _add_config(parser: Parser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file, or PgBouncer's ini file (also PGFUNNEL_CONFIG)",
    )


def _add_switches(parser: Parser) -> None:
    """PgBouncer's (usage.md, "Command line switches")."""
    group = parser.add_argument_group("PgBouncer's switches")
    group.add_argument(
        "-q", "--quiet", action="store_true", help="Write no log to stderr (to logfile and syslog)."
    )
    group.add_argument(
        "-v",
        "--verbose",
        dest="log_level",
        action="store_const",
        const="debug",
        default=argparse.SUPPRESS,
        help="As --log-level debug.",
    )
    group.add_argument(
        "-u", "--user", dest="run_as", default=argparse.SUPPRESS, help="As --run-as."
    )
    for names, words in REFUSED.items():
        group.add_argument(*names, action=Refused, nargs=0, default=argparse.SUPPRESS, help=words)


def _loader(command: str, found: dict[str, Any]) -> Callable[[], Understood]:
    """What reads the settings as the options say, now and again at each reload."""
    from proxy.settings import understand

    named, config, quiet = (found.pop(name) for name in ("file", "config", "quiet"))
    if named is not None and (config is not None or ":/" in str(named)):
        raise Misused(f"one argument too many; settings are options, see `pgfunnel {command} -h`")

    def read() -> Understood:
        understood = understand(found, environ=os.environ, file=named or config)
        return _quiet(understood) if quiet else understood

    return read


def _quiet(understood: Understood) -> Understood:
    """Without a file for it, the log goes to syslog, where that is on, or nowhere."""
    settings = understood.settings
    if settings.logfile:
        return understood
    return replace(understood, settings=settings.model_copy(update={"logfile": os.devnull}))


def serve(words: Sequence[str]) -> int:
    """Run the proxy until it is told to stop."""
    parser = _settings_parser("serve", "Run the proxy. Every setting is an option.")
    read = _loader("serve", vars(parser.read(words)))
    from proxy import app

    try:
        understood = read()
    except SettingsError as error:
        if error.understood is not None:
            app.tell_log(error.understood, error.problems)
        raise
    return app.run(understood.settings, reload=lambda: read().settings, notes=understood.notes)


def check(words: Sequence[str]) -> int:
    """Validate the settings and their files, and try every upstream; 1 when anything is wrong.

    An upstream that is away is told of and counts for nothing: it may be back when it is needed.
    """
    parser = _settings_parser("check", "Validate the settings and try every upstream.")
    parser.add_argument("--no-connect", action="store_true", help="try no upstream")
    found = vars(parser.read(words))
    connect = not found.pop("no_connect")
    try:
        understood = _loader("check", found)()
    except SettingsError as error:
        return _complain(error.problems, FAILED)
    from proxy import app
    from proxy.settings.trial import try_all

    settings = understood.settings
    problems = app.file_problems(settings)
    users = {} if problems else app.read_users(settings)
    passwords = {name: secret.password for name, secret in users.items()}
    _say("\n".join((*understood.given, *understood.notes)))
    outcome = try_all(settings, passwords, connect=connect)
    problems += outcome.problems
    _say("\n".join(outcome.lines))
    _complain((f"away now: {line}" for line in outcome.away), OK)
    return _complain(problems, FAILED if problems else OK)


def healthcheck(words: Sequence[str]) -> int:
    """Ask the running pgfunnel on this machine for /healthz; one line, 0 or 1."""
    parser = Parser("pgfunnel healthcheck", "Ask the pgfunnel on this machine if it is healthy.")
    host, port = _http_place(_read_http(parser, words), os.environ)
    if port <= 0:
        why = "http_port is off" if port else "http_port is 0, a free one"
        return _complain([f"{why}; name the port with --http-port"], FAILED)
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        why = _os_words(error) if isinstance(error, OSError) else "answers, but not in HTTP"
        return _complain([f"unhealthy: {host}:{port}: {why}"], FAILED)
    finally:
        connection.close()
    if status != 200:
        return _complain([f"unhealthy: {host}:{port} answered {status}"], FAILED)
    return _say(f"healthy: {host}:{port}")


def top(words: Sequence[str]) -> int:
    """Show what a running pgfunnel does, until told to stop."""
    parser = Parser("pgfunnel top", "See what a running pgfunnel does now; q or Ctrl-C ends it.")
    parser.add_argument("--url", metavar="URL", help="such as http://host:9127, instead of these:")
    parser.add_argument("--once", action="store_true", help="print one frame and end")
    given = _read_http(parser, words)
    host, port = _http_place(given, os.environ)
    if not given.url and port <= 0:
        why = "http_port is off" if port else "http_port is 0, a free one"
        return _complain([f"{why}; name the port with --http-port"], FAILED)
    from proxy.top import run

    place = f"[{host}]" if ":" in host else host
    try:
        return run(given.url or f"http://{place}:{port}", once=given.once)
    except KeyboardInterrupt:
        return OK


def _read_http(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    _add_config(parser)
    parser.add_argument("--http-addr", metavar="ADDRESS")
    parser.add_argument("--http-port", metavar="PORT")
    return parser.read(words)


def _http_place(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[str, int]:
    """http_addr and http_port, read without pydantic: a health check runs every few seconds."""
    file = _top_level(given.config or environ.get("PGFUNNEL_CONFIG"))
    port = environ.get("PGFUNNEL_HTTP_PORT")
    if port is not None and "://" in port:  # a Kubernetes service link, not the setting
        port = None
    address = _first(given.http_addr, environ.get("PGFUNNEL_HTTP_ADDR"), file.get("http_addr"))
    everywhere = {"*": "127.0.0.1", "": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    address = str(HTTP_ADDR if address is None else address)
    number = _first(given.http_port, port, file.get("http_port"))
    return everywhere.get(address, address), _port(HTTP_PORT if number is None else number)


def _top_level(file: str | Path | None) -> dict[str, Any]:
    if not file:
        return {}
    if Path(file).suffix in INI:
        lines = Path(file).read_text(encoding="utf-8")
        return dict(
            re.findall(r"(?m)^[ \t]*(http_addr|http_port)[ \t]*=[ \t]*(.*?)[ \t\r]*$", lines)
        )
    import tomllib

    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise Misused(f"file {file}: is not TOML: {error}; correct that line") from None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _port(value: str | int) -> int:
    try:
        port = -1 if value == "off" else int(value)
    except ValueError:
        raise Misused(f'http_port: "{value}" is not a port; give 1 to 65535') from None
    if not -1 <= port <= 65535:
        raise Misused(f"http_port: {port} is not a port; give 1 to 65535")
    return port


def demo(words: Sequence[str]) -> int:
    """Show what pgfunnel does on an embedded Postgres."""
    from proxy.demo import main as run

    return run(list(words))


def settings(words: Sequence[str]) -> int:
    """Print the reference of the settings."""
    parser = Parser("pgfunnel settings", "Print every setting.")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--example", action="store_true", help="as a TOML file to start from")
    form.add_argument("--markdown", action="store_true", help="as a page of the documentation")
    given = parser.read(words)
    from proxy.settings import reference

    if given.example:
        return _say(reference.example().rstrip())
    return _say((reference.markdown() if given.markdown else reference.text()).rstrip())


COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "serve": serve,
    "check": check,
    "healthcheck": healthcheck,
    "top": top,
    "demo": demo,
    "settings": settings,
}
