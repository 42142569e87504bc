"""`python -m tests.sessions`: the randomized session test by hand."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.funnel import start_funnel
from tests.postgres import Postgres, local_bindir, start_own
from tests.sessions.bouncer import start_bouncer
from tests.sessions.runner import ALL_KINDS, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sessions", description=__doc__)
    parser.add_argument("--dsn", help="where the clients connect; a server of its own if left out")
    parser.add_argument("--direct", help="a superuser's DSN straight to Postgres, if DSN is not")
    parser.add_argument("--through", choices=("pgfunnel", "pgbouncer"), help="start one before it")
    parser.add_argument("--pool", type=int, default=8, help="servers of --through (default 8)")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=ALL_KINDS, default=ALL_KINDS)
    parser.add_argument("--audit", type=float, default=0, help="share of pgfunnel's session_audit")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    return parser.parse_args()


@contextlib.contextmanager
def _postgres(args: argparse.Namespace) -> Iterator[Postgres]:
    if args.dsn:
        yield Postgres(args.direct or args.dsn, "dsn")
        return
    postgres = start_own("own", local_bindir(), max_connections=3 * args.clients)
    assert postgres.server is not None
    try:
        yield postgres
    finally:
        postgres.server.stop()


@contextlib.contextmanager
def _target(args: argparse.Namespace, postgres: Postgres) -> Iterator[str]:
    """Where the clients connect. Raises SystemExit where an audit has found something."""
    if args.through is None:
        yield args.dsn or postgres.dsn
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.through == "pgbouncer":
            with start_bouncer(postgres, Path(folder), args.pool) as dsn:
                yield dsn
            return
        settings = {"default_pool_size": args.pool, "session_audit": args.audit}
        funnel = start_funnel(postgres, Path(folder), **settings)
        try:
            yield funnel.dsn()
            leaks = {k: n for k, n in funnel.metrics().items() if "leaks_total{" in k}
        finally:
            funnel.stop()
        if leaks:
            raise SystemExit(f"leaks: {leaks}")


def main() -> int:
    """Exit code 1 when anything was wrong."""
    args = _arguments()
    with _postgres(args) as postgres, _target(args, postgres) as dsn:
        tally = run(
            dsn,
            postgres.dsn,
            seconds=args.seconds,
            clients=args.clients,
            seed=args.seed,
            kinds=tuple(args.kinds),
        )
        for story in tally.stories:
            print(story, file=sys.stderr)
        print(json.dumps({"seed": args.seed, **tally.as_dict()}) if args.json else tally.table())
    return 1 if tally.wrong.total() or tally.errors.total() else 0


if __name__ == "__main__":
    sys.exit(main())
