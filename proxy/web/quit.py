"""POST /quitquitquit: an application's last word to its sidecar, where nothing else stops it."""

import logging
from collections.abc import Callable
from ipaddress import ip_address

from proxy.telemetry.logs import log_event
from proxy.web.http import Request, Respond, Response, plain

_log = logging.getLogger("pgfunnel.web")

# A browser sends the first with every POST of a page, also of a page from elsewhere; a proxy that
# passes on what others ask adds one of the rest.
_FROM_ELSEWHERE = ("origin", "forwarded", "via", "x-forwarded-for")


def quitting(stop: Callable[[], None]) -> Respond:
    """The route that calls `stop` once, for a peer on this machine (in this pod) alone."""
    begun = False

    async def quitquitquit(request: Request) -> Response:
        nonlocal begun
        if not _is_loopback(request.peer):
            return plain(403, "Only loopback may ask for this.")
        if any(name in request.headers for name in _FROM_ELSEWHERE):
            return plain(403, "Neither a web page nor a proxy may ask for this.")
        if not begun:
            begun = True
            log_event(_log, logging.INFO, "quitquitquit", peer=request.peer)
            stop()
        return plain(200, "draining")

    return quitquitquit


def _is_loopback(peer: str) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
