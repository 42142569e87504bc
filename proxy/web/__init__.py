"""HTTP on a port of its own: metrics and health."""

from proxy.telemetry.views import ProxyView
from proxy.web.http import Limits
from proxy.web.routes import router, routes
from proxy.web.server import WebServer

__all__ = ["Limits", "WebServer", "start"]


async def start(view: ProxyView, host: str, port: int, limits: Limits | None = None) -> WebServer:
    """Serve /metrics, /healthz and /readyz of `view` on host and port (0 takes a free one).

    Raises SettingsError when the address cannot be had.
    """
    return await WebServer.listen(router(routes(view)), host, port, limits)
