"""What is served at which path.

A route is an async function from a Request to a Response; adding one is one line in `routes`.
"""

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from proxy.telemetry.views import ProxyView
from proxy.web import page
from proxy.web.exposition import Exposition
from proxy.web.http import JSON, Request, Respond, Response, plain
from proxy.web.quit import quitting

_READ = ("GET", "HEAD")


class Route(NamedTuple):
    """What answers at a path, and to which methods."""

    respond: Respond
    methods: tuple[str, ...] = _READ


def routes(
    view: ProxyView, *, with_page: bool = True, stop: Callable[[], None] | None = None
) -> dict[str, Route]:
    """Every path, with the function that answers it; /quitquitquit only with `stop`."""
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
        found = {
            "pinned": [pin._asdict() for pin in view.pinned()],
            "statements": [statement._asdict() for statement in view.pinning()],
        }
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        return Response(200, text.encode("utf-8", "replace"), JSON)

    paths: dict[str, Respond] = {
        "/metrics": metrics,
        "/healthz": healthz,
        "/readyz": readyz,
        "/pins": pins,
    }
    if with_page:
        paths |= page.paths(view)
    served = {path: Route(respond) for path, respond in paths.items()}
    if stop is not None:
        served["/quitquitquit"] = Route(quitting(stop), ("POST",))
    return served


def router(paths: Mapping[str, Route]) -> Respond:
    """One function that answers every request: by path, or with a clear 404 or 405."""

    async def respond(request: Request) -> Response:
        route = paths.get(request.path)
        if route is None:
            return plain(404, f"Nothing here; there is {', '.join(paths)}.")
        if request.method not in route.methods:
            words = f"Only {' and '.join(route.methods)} may be asked here."
            return plain(405, words, ("allow", ", ".join(route.methods)))
        return await route.respond(request)

    return respond
