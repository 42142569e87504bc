"""`pgfunnel top`: what a running pgfunnel does now, in a terminal."""

from proxy.top.command import run

__all__ = ["run"]
