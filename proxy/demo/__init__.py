"""`pgfunnel demo`: many functions on few connections, on an embedded Postgres."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the demo with the arguments after `pgfunnel demo`; the exit code.

    0: done, and nothing failed through pgfunnel. 1: something did, or the demo cannot run here.
    2: bad arguments. 130: interrupted.
    """
    from proxy.demo.command import run

    return run(argv)
