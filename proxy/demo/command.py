"""The order of what the demo shows, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Coroutine
from typing import Any
from urllib.parse import quote

import asyncpg

from proxy.demo import table
from proxy.demo.embedded import EmbeddedPostgres, EmbeddedPostgresError
from proxy.demo.functions import SCHEMA, Step, Tally, run_step
from proxy.demo.funnel import FunnelError, running_funnel
from proxy.demo.options import MAX_CONNECTIONS, Options, parse
from proxy.demo.progress import Progress
from proxy.demo.watch import Watch

_ROLE = "functions"
_DATABASE = "demo"
_INTERRUPTED = 130
_REFRESH_SECONDS = 0.1
_TOLD = (
    EmbeddedPostgresError,
    FunnelError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(argv: list[str]) -> int:
    """Parse, show, print; the exit code. Interrupted or not, nothing that was started stays."""
    options = parse(argv)
    progress = Progress()
    try:
        rows = asyncio.run(_interruptible(_show(options, progress)))
    except (asyncio.CancelledError, KeyboardInterrupt):
        progress.done("interrupted; everything is stopped and removed")
        return _INTERRUPTED
    except _TOLD as error:
        progress.done(f"pgfunnel demo: {error}")
        return 1
    if options.json is not None:
        options.json.write_text(table.to_json(rows))
    print(f"\n{table.render(rows)}\n\n{table.verdict(rows)}")
    return 0 if table.kept_its_promise(rows, options.pool_size) else 1


async def _interruptible(show: Coroutine[Any, Any, list[table.Row]]) -> list[table.Row]:
    """Cancel `show` at every signal that asks for a stop; cancelling it cleans up."""
    task = asyncio.ensure_future(show)
    loop = asyncio.get_running_loop()
    for sig in _STOPPING:
        loop.add_signal_handler(sig, task.cancel)
    return await task


async def _show(options: Options, progress: Progress) -> list[table.Row]:
    _raise_open_files()
    progress.now("starting an embedded Postgres")
    with EmbeddedPostgres(MAX_CONNECTIONS) as server:
        version, dsn = await _prepare(server)
        progress.done(
            f"Postgres {version}, max_connections = {MAX_CONNECTIONS}, on port {server.port}; "
            f"pgfunnel with a pool of {options.pool_size}"
        )
        with Watch(_in_database(server.dsn), _ROLE) as watch:
            rows = await _steps("direct", dsn, options, watch, progress)
            async with running_funnel(dsn, _funnel_settings(options)) as port:
                through = dsn.replace(f":{server.port}/", f":{port}/")
                return rows + await _steps("pgfunnel", through, options, watch, progress)


def _funnel_settings(options: Options) -> dict[str, object]:
    return {
        "default_pool_size": options.pool_size,
        "max_client_conn": max(options.concurrency) + 100,
    }


async def _prepare(server: EmbeddedPostgres) -> tuple[str, str]:
    """The functions' role, database and table; the server's version and the role's DSN."""
    password = secrets.token_urlsafe(18)
    admin = await asyncpg.connect(server.dsn, ssl=False)
    await admin.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{password}'")
    await admin.execute(f"CREATE DATABASE {_DATABASE} OWNER {_ROLE}")
    version = await admin.fetchval("SHOW server_version")
    await admin.close()
    dsn = f"postgresql://{_ROLE}:{quote(password)}@{server.host}:{server.port}/{_DATABASE}"
    function = await asyncpg.connect(dsn, ssl=False)
    await function.execute(SCHEMA)
    await function.close()
    return version, dsn


def _in_database(dsn: str) -> str:
    return f"{dsn.rpartition('/')[0]}/{_DATABASE}"


async def _steps(
    path: table.Path, dsn: str, options: Options, watch: Watch, progress: Progress
) -> list[table.Row]:
    rows = []
    at_most = options.pool_size if path == "pgfunnel" else 0
    for level in options.concurrency:
        step = Step(dsn, level, options.seconds, options.rounds)
        tally = Tally()
        watch.start_over()
        await _live(path, step, tally, at_most, watch, progress)
        progress.done(_line(path, step, tally, watch.peak))
        rows.append(table.make_row(path, level, tally.latencies, tally.failed, watch.peak))
    return rows


async def _live(
    path: table.Path, step: Step, tally: Tally, at_most: int, watch: Watch, progress: Progress
) -> None:
    """Run the step while the progress line follows it."""
    running = asyncio.create_task(run_step(step, tally, lambda: watch.settle(at_most)))
    try:
        while not (await asyncio.wait([running], timeout=_REFRESH_SECONDS))[0]:
            progress.now(_line(path, step, tally, watch.now))
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])


def _line(path: table.Path, step: Step, tally: Tally, connections: int) -> str:
    return (
        f"{path:>8}, {step.concurrency:>3} at once: {tally.invocations:>6,} invocations, "
        f"{tally.failed.total():>5,} failed, {connections:>2} server connections"
    )


def _raise_open_files() -> None:
    """Thousands of sockets need as many open files as the system allows this process."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
