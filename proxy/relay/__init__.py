"""Moves the bytes: a link is one socket, plain or TLS; client and server meet here."""

from proxy.relay import link as _link

compiled = not str(_link.__file__).endswith(".py")
"""Whether the hot modules run as compiled code."""
