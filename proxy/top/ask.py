"""Asks a running pgfunnel for its /status.json."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from proxy.errors import PgfunnelError, SettingsError

_SECONDS = 3.0

Status = dict[str, Any]


class NoStatus(PgfunnelError):
    """Nothing there, or something that is not pgfunnel."""


class Source:
    """The place that is asked. Raises SettingsError when `url` is not one of HTTP."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            raise _not_a_url() from None
        if parts.scheme not in ("http", "https") or not self._host or parts.username is not None:
            raise _not_a_url()
        self._connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._path = parts.path.removesuffix("/") + "/status.json"
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/')}"

    def read(self) -> Status:
        """What it says. Raises NoStatus."""
        connection = self._connect(self._host, self._port, timeout=_SECONDS)
        try:
            connection.request("GET", self._path)
            answer = connection.getresponse()
            return self._understood(answer.status, answer.read())
        except TimeoutError:
            raise NoStatus(f"{self.url} does not answer within {_SECONDS:g} s") from None
        except HTTPException:
            raise NoStatus(f"{self.url} answers, but not in HTTP.") from None
        except OSError as error:
            why = error.strerror or str(error)
            hint = "Is pgfunnel running there, and is http_port its own?"
            raise NoStatus(f"{self.url}: {why}.", hint=hint) from None
        finally:
            connection.close()

    def _understood(self, code: int, body: bytes) -> Status:
        if code == 404:
            hint = "Is it pgfunnel, and is its http_page on?"
            raise NoStatus(f"{self.url} has no status.json.", hint=hint)
        if code != 200:
            raise NoStatus(f"{self.url} answers with {code}.")
        try:
            status = json.loads(body)
        except ValueError:
            status = None
        if not isinstance(status, dict) or "pool_count" not in status:
            raise NoStatus(f"{self.url} is not pgfunnel.")
        return status


def _not_a_url() -> SettingsError:
    return SettingsError(["--url is not an address of HTTP; write http://host:port"])
