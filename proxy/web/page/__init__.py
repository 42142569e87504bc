"""The page for people, and the JSON that keeps it current; the files lie beside this one."""

from pathlib import Path

from proxy.telemetry.views import ProxyView
from proxy.web.http import JSON, Request, Respond, Response
from proxy.web.status import Status


def _octets(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()


# Nothing from elsewhere, nothing inline, in nobody's frame, nothing to send.
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
)
_FILES = {
    "/": (_octets("page.html"), "text/html; charset=utf-8"),
    "/page.css": (_octets("page.css"), "text/css; charset=utf-8"),
    "/page.js": (_octets("page.js"), "text/javascript; charset=utf-8"),
}
"""Read when this is imported: afterwards nobody may be able to (`run_as`)."""


def paths(view: ProxyView) -> dict[str, Respond]:
    """The page's files, and /status.json."""
    status = Status(view)

    async def status_json(_request: Request) -> Response:
        return Response(200, await status.read(), JSON, _HEADERS)

    return {path: _file(*what) for path, what in _FILES.items()} | {"/status.json": status_json}


def _file(octets: bytes, content_type: str) -> Respond:
    async def respond(_request: Request) -> Response:
        return Response(200, octets, content_type, _HEADERS)

    return respond
