"""HTTP on a port of its own: metrics, health, and a page for people."""

from collections.abc import Callable

from proxy.telemetry.views import ProxyView
from proxy.web.http import Limits
from proxy.web.routes import router, routes
from proxy.web.server import WebServer

__all__ = ["Limits", "WebServer", "start"]


async def start(
    view: ProxyView,
    host: str,
    port: int,
    limits: Limits | None = None,
    *,
    page: bool = True,
    stop: Callable[[], None] | None = None,
) -> WebServer:
    """Serve metrics, health and the page of `view` on host and port (0 takes a free one).

    `stop` is called by POST /quitquitquit, which there is only with it. Raises SettingsError when
    the address cannot be had.
    """
    paths = routes(view, with_page=page, stop=stop)
    return await WebServer.listen(router(paths), host, port, limits)
