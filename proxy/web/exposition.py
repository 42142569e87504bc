"""The metrics page, rendered in pieces so that the event loop is never kept for long."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from itertools import islice

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from proxy.telemetry.views import ProxyView
from proxy.web.metrics import families

# A sample takes 5 to 8 us to read and render: this many keep the loop for less than 1 ms.
_SAMPLES_IN_A_PIECE = 100
_EOF = b"# EOF\n"

Encoder = Callable[[Collector], bytes]


class Exposition:
    """Renders the metrics of one proxy and of the process it lives in."""

    def __init__(self, view: ProxyView) -> None:
        self._view = view
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def render(self, accept: str) -> tuple[str, AsyncGenerator[bytes, None]]:
        """Content type and body for a request's Accept header: Prometheus text or OpenMetrics."""
        encode, content_type = _encoder(accept)
        return content_type, self._pieces(encode, openmetrics="openmetrics" in content_type)

    async def _pieces(self, encode: Encoder, *, openmetrics: bool) -> AsyncGenerator[bytes, None]:
        for family, samples in self._families():
            first = True
            while part := list(islice(samples, _SAMPLES_IN_A_PIECE)):
                yield _piece(encode, family, part, header=first)
                first = False
                await asyncio.sleep(0)
        if openmetrics:
            yield _EOF

    def _families(self) -> Iterator[tuple[Metric, Iterator[Sample]]]:
        yield from families(self._view)
        for family in self._process.collect():
            yield family, iter(family.samples)


class _One(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _encoder(accept: str) -> tuple[Encoder, str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        return choose_encoder("")


def _piece(encode: Encoder, family: Metric, part: list[Sample], *, header: bool) -> bytes:
    family.samples = part
    text = encode(_One(family)).removesuffix(_EOF)
    if header:
        return text
    while text.startswith(b"# "):
        text = text.partition(b"\n")[2]
    return text
