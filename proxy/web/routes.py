"""What is served at which path.

A route is an async function from a Request to a Response; adding one is one line in `routes`.
"""

import json
from collections.abc import Mapping

from proxy.telemetry.views import ProxyView
from proxy.web.exposition import Exposition
from proxy.web.http import Request, Respond, Response, plain

_METHODS = ("GET", "HEAD")


def routes(view: ProxyView) -> dict[str, Respond]:
    """Every path, with the function that answers it."""
    exposition = Exposition(view)

    async def metrics(request: Request) -> Response:
        content_type, pieces = exposition.render(request.headers.get("accept", ""))
        return Response(200, pieces, content_type)

    async def healthz(_request: Request) -> Response:
        return plain(200)

    async def readyz(_request: Request) -> Response:
        if view.ready:
            return plain(200)
        return plain(503, f"not ready: {view.why_not_ready}")

    async def pins(_request: Request) -> Response:
        page = {
            "pinned": [pin._asdict() for pin in view.pinned()],
            "statements": [statement._asdict() for statement in view.pinning()],
        }
        text = json.dumps(page, indent=2, ensure_ascii=False) + "\n"
        return Response(200, text.encode("utf-8", "replace"), "application/json")

    return {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz, "/pins": pins}


def router(paths: Mapping[str, Respond]) -> Respond:
    """One function that answers every request: by path, or with a clear 404 or 405."""

    async def respond(request: Request) -> Response:
        route = paths.get(request.path)
        if route is None:
            return plain(404, f"Nothing here; there is {', '.join(paths)}.")
        if request.method not in _METHODS:
            return plain(405, "Only GET and HEAD are served.", ("allow", ", ".join(_METHODS)))
        return await route(request)

    return respond
