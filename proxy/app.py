"""Builds everything from the settings and runs it until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import resource
import signal
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from proxy import __version__, relay, web
from proxy.admin import Console, Shutdown
from proxy.auth.secret import Secret
from proxy.auth.userlist import parse_userlist
from proxy.daemon import (
    PidFile,
    become,
    inherited_sockets,
    notify,
    notify_reloading,
    open_log,
)
from proxy.errors import SettingsError
from proxy.relay import lingering
from proxy.relay.funnel import Funnel
from proxy.relay.listen import Listener, open_sockets
from proxy.relay.rules import read_gate
from proxy.relay.tls_settings import client_tls_policy, server_tls_policies
from proxy.settings import Settings, diff
from proxy.settings.change import changed
from proxy.telemetry import logs
from proxy.telemetry.logs import log_event
from proxy.telemetry.syslog import Syslog
from proxy.web import WebServer

log = logging.getLogger("pgfunnel")

_SPARE_FILES = 64
"""Descriptors for everything that is neither a client (or what is left of one) nor a server."""

_TERMINAL = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_SIGNALS = (*_TERMINAL, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_STOPPING = (*_TERMINAL, *Shutdown)
_AT_ONCE = (signal.SIGQUIT, Shutdown.AT_ONCE)
_RELEASED, _DESERTED = "all servers connections to be released", "all clients disconnect"


def run(settings: Settings, reload: Callable[[], Settings], notes: Sequence[str] = ()) -> int:
    """Serve until SIGTERM, SIGINT or SIGQUIT; the exit code. Raises SettingsError before it serves.

    `reload` reads the settings anew at SIGHUP; if it raises SettingsError nothing changes.
    `notes` are said once, in the log.
    """
    if settings.run_as:
        become(settings.run_as)
    _set_up_log(settings)
    for note in notes:
        log_event(log, logging.WARNING, "setting_has_no_effect", note=note)
    try:
        return _run(settings, reload)
    except SettingsError as error:
        tell_log(settings, error.problems)
        raise


def _run(settings: Settings, reload: Callable[[], Settings]) -> int:
    pid_file = PidFile(Path(settings.pidfile)) if settings.pidfile else None
    try:
        with asyncio.Runner(loop_factory=_loop_factory(settings.event_loop)) as runner:
            return runner.run(_App(settings, reload).serve())
    finally:
        if pid_file is not None:
            pid_file.remove()


def tell_log(settings: Settings, problems: Sequence[str]) -> None:
    """Say why there is no start in the logs other than stderr, which has it from the caller."""
    if not settings.logfile and not settings.syslog:
        return
    with contextlib.suppress(SettingsError):
        if settings.run_as:
            become(settings.run_as)
        _set_up_log(settings)
    for problem in problems:
        log_event(log, logging.CRITICAL, "start_failed", problem=problem)


def _set_up_log(settings: Settings) -> None:
    """Log as the settings say, to a file opened now or to stderr. Raises SettingsError."""
    syslog = _syslog(settings)
    if not settings.logfile:
        logs.setup(settings.log_format, settings.log_level, syslog=syslog)
        return
    fd = open_log(Path(settings.logfile))
    try:
        logs.setup(settings.log_format, settings.log_level, fd, syslog)
    finally:
        os.close(fd)


def _syslog(settings: Settings) -> Syslog | None:
    if not settings.syslog:
        return None
    return Syslog(settings.syslog_ident, settings.syslog_facility)


def _loop_factory(choice: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if choice == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if choice == "uvloop":
            raise SettingsError(["event_loop is uvloop, and uvloop is not installed"]) from None
        return None
    return uvloop.new_event_loop


def read_users(settings: Settings) -> dict[str, Secret]:
    """Users of auth_file. Raises SettingsError."""
    if not settings.auth_file:
        return {}
    try:
        raw = Path(settings.auth_file).read_bytes()
    except OSError as error:
        raise SettingsError([f"auth_file {settings.auth_file}: {error.strerror}"]) from None
    return parse_userlist(raw, str(settings.auth_file))


def file_problems(settings: Settings) -> list[str]:
    """What is wrong in the files that the settings name: users, certificates, keys, rules."""
    problems: list[str] = []
    readers: tuple[Callable[[Settings], object], ...] = (
        read_users,
        client_tls_policy,
        server_tls_policies,
        read_gate,
    )
    for read in readers:
        try:
            read(settings)
        except SettingsError as error:
            problems += error.problems
    return problems


class _App:
    def __init__(self, settings: Settings, reload: Callable[[], Settings]) -> None:
        self._settings = settings
        self._reload = reload
        self._signals: asyncio.Queue[signal.Signals | Shutdown] = asyncio.Queue()

    async def serve(self) -> int:
        loop = asyncio.get_running_loop()
        logs.defer(loop.call_soon)
        try:
            return await self._serve(loop)
        finally:
            logs.defer(None)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> int:
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        funnel = Funnel(self._settings, read_users(self._settings))
        _raise_file_limit(self._settings)
        inherited = inherited_sockets()
        sockets = inherited or await open_sockets(self._settings)
        listener = Listener(funnel, sockets, owned=not inherited)
        try:
            server = await self._start_web(funnel)
        except SettingsError:
            listener.close()
            raise
        funnel.start()
        Console(funnel, _Operated(self, funnel))
        _say_ready(self._settings, listener, server)
        notify("READY=1")
        keys = asyncio.create_task(funnel.prepare_keys())
        told = await self._until_told(funnel)
        notify("STOPPING=1")
        keys.cancel()
        await self._shut_down(funnel, listener, told)
        if server is not None:
            await server.close()
        log_event(log, logging.INFO, "stopped")
        return 0

    async def _start_web(self, funnel: Funnel) -> WebServer | None:
        settings = self._settings
        if settings.http_port is None or settings.http_port < 0:
            return None
        try:
            return await web.start(
                funnel,
                settings.http_addr,
                settings.http_port,
                page=settings.http_page,
                stop=self._stop if settings.quitquitquit else None,
            )
        except SettingsError as error:
            if "http_port" in settings.model_fields_set:
                raise
            # Nobody has asked for it: PgBouncer's own exporter, for one, has the same port.
            log_event(log, logging.WARNING, "http_not_served", problem=error.message)
            return None

    def _stop(self) -> None:
        self._signals.put_nowait(signal.SIGTERM)

    async def _until_told(self, funnel: Funnel) -> signal.Signals | Shutdown:
        """Do what signals say until one, or an operator, says to stop: that one."""
        while (told := await self._signals.get()) not in _STOPPING:
            if told == signal.SIGHUP:
                log_event(log, logging.INFO, "reloading", told=told.name)
                self.follow(funnel)
            else:
                _pause(funnel, told)
        return told

    def shut_down(self, how: Shutdown) -> None:
        """Someone said so at the console."""
        self._signals.put_nowait(how)

    def follow(self, funnel: Funnel) -> list[str]:
        """SIGHUP, RELOAD: new settings, or none of them; the log file is opened anew in any case.

        Returns what is wrong with them.
        """
        notify_reloading()
        problems = self._take_over(funnel)
        notify("READY=1")
        return problems

    def _take_over(self, funnel: Funnel) -> list[str]:
        self._open_log(self._settings)
        try:
            self.use(funnel, self._reload())
        except SettingsError as error:
            for problem in error.problems:
                log_event(log, logging.ERROR, "reload_failed", problem=problem)
            return error.problems
        log_event(log, logging.INFO, "reloaded")
        return []

    def change(self, funnel: Funnel, key: str, value: str) -> None:
        """One setting, until the next reload. Raises SettingsError."""
        self.use(funnel, changed(self._settings, key, value))

    def use(self, funnel: Funnel, new: Settings) -> None:
        """Follow these settings. Raises SettingsError, and nothing has changed."""
        funnel.use(new, read_users(new))
        self._open_log(new)
        for change in diff(self._settings, new):
            event = "setting_needs_restart" if change.restart else "setting_changed"
            log_event(log, logging.INFO, event, setting=change.name)
        self._settings = new

    def _open_log(self, settings: Settings) -> None:
        try:
            _set_up_log(settings)
        except SettingsError as error:
            log_event(log, logging.ERROR, "log_unchanged", problem=error.message)
        logs.defer(asyncio.get_running_loop().call_soon)

    async def _shut_down(
        self, funnel: Funnel, listener: Listener, told: signal.Signals | Shutdown
    ) -> None:
        """Stop as the signal, or what was said at the console, wants it.

        SIGTERM: within drain_timeout; SIGINT, WAIT_FOR_SERVERS: when the last server is given
        back; WAIT_FOR_CLIENTS: when the last client has left; SIGQUIT, SHUTDOWN: now. A second
        one ends any at once.
        """
        funnel.draining = True
        if told not in _AT_ONCE:
            self._say_draining(funnel, told)
            await _first(self._drained(funnel, told), self._told_again(funnel))
        elif told == signal.SIGQUIT:
            log_event(log, logging.INFO, "stopping", told=told.name)
        listener.close()
        await _first(funnel.stop(), self._told_again(funnel))

    def _say_draining(self, funnel: Funnel, told: signal.Signals | Shutdown) -> None:
        timeout = self._settings.drain_timeout if told == signal.SIGTERM else math.inf
        servers = told in (signal.SIGINT, Shutdown.WAIT_FOR_SERVERS)
        log_event(
            log,
            logging.INFO,
            "draining",
            told=_name(told),
            waits_for=_RELEASED if servers else _DESERTED,
            clients=len(funnel.clients),
            timeout_s=timeout,
        )

    def _drained(
        self, funnel: Funnel, told: signal.Signals | Shutdown
    ) -> Coroutine[Any, Any, None]:
        if told is Shutdown.WAIT_FOR_CLIENTS:
            return funnel.deserted()
        if told == signal.SIGTERM:
            return funnel.drain(self._settings.drain_timeout)
        return funnel.drain(math.inf, until_free=True)

    async def _told_again(self, funnel: Funnel) -> None:
        while (told := await self._signals.get()) not in _STOPPING:
            if told == signal.SIGUSR2:
                _pause(funnel, told)
        log_event(log, logging.INFO, "stopping_again", told=_name(told))


def _name(told: signal.Signals | Shutdown) -> str:
    return told.value if isinstance(told, Shutdown) else told.name


def _pause(funnel: Funnel, told: signal.Signals | Shutdown) -> None:
    on = told == signal.SIGUSR1
    funnel.pause(on=on)
    log_event(log, logging.INFO, "paused" if on else "resumed", told=_name(told))


class _Operated:
    """The program as the console may change it."""

    def __init__(self, app: _App, funnel: Funnel) -> None:
        self._app = app
        self._funnel = funnel

    def reload(self) -> list[str]:
        return self._app.follow(self._funnel)

    def set(self, key: str, value: str) -> None:
        self._app.change(self._funnel, key, value)

    def shut_down(self, how: Shutdown) -> None:
        self._app.shut_down(how)


async def _first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run until one of them is done; the others are given up."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for task in done:
        task.result()


def _raise_file_limit(settings: Settings) -> None:
    """Open files as far as they may go; say when max_client_conn does not fit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.max_client_conn + settings.default_pool_size + lingering.MOST + _SPARE_FILES
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        log_event(
            log,
            logging.WARNING,
            "open_files_limit_too_low",
            limit=soft,
            needed=needed,
            advice="raise the limit (ulimit -n) or lower max_client_conn",
        )


def _say_ready(settings: Settings, listener: Listener, server: WebServer | None) -> None:
    log_event(
        log,
        logging.INFO,
        "listening",
        addr=settings.listen_addr,
        port=listener.port,
        unix_socket_dir=str(settings.unix_socket_dir or ""),
        http_port=server.port if server is not None else 0,
    )
    mode, compiled = settings.pool_mode, relay.compiled
    log_event(log, logging.INFO, "up", version=__version__, pool_mode=mode, compiled=compiled)
