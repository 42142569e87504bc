"""docs/metrics.md, written from the code: `python -m proxy.web.metrics_page > docs/metrics.md`."""

from collections.abc import Iterable, Iterator

from proxy.telemetry.counters import BOUNDS, PIN_BOUNDS
from proxy.telemetry.reasons import CloseReason, Side
from proxy.telemetry.views import CLIENT_STATES, SERVER_STATES
from proxy.web.metrics import METRICS

_HEAD = """\
# Metrics

`GET /metrics` on `http_port` answers in the Prometheus text format, or in OpenMetrics for who asks
for it. Next to the metrics below it has those of the process (`process_*`, `python_*`).

This page is written from the code: `python -m proxy.web.metrics_page > docs/metrics.md`.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *_metrics(), "", *_words(), "", *_reasons(), "", *_health(), ""])


def _metrics() -> Iterator[str]:
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"
    yield ""
    yield f"Histograms have these bounds, in seconds: {_numbers(BOUNDS)};"
    yield f"`pgfunnel_pin_seconds` these: {_numbers(PIN_BOUNDS)}."


def _numbers(bounds: Iterable[float]) -> str:
    return ", ".join(f"{bound:.15g}" for bound in bounds)


def _words() -> Iterator[str]:
    yield "## States"
    yield ""
    yield f"Clients: {_listed(CLIENT_STATES)}. Servers: {_listed(SERVER_STATES)}."


def _reasons() -> Iterator[str]:
    yield "## Why a connection was closed"
    yield ""
    yield "The same word is the `reason` in `pgfunnel_closes_total`, in the log and in the console."
    for side in Side:
        yield ""
        yield f"| {side.value}s | meaning |"
        yield "|---|---|"
        for reason in CloseReason:
            if meaning := reason.meaning(side):
                yield f"| `{reason.value}` | {meaning} |"


def _health() -> Iterator[str]:
    yield "## Health and other paths"
    yield ""
    yield "| path | answer |"
    yield "|---|---|"
    yield "| `/healthz` | 200 as long as the process serves; it does not depend on Postgres |"
    yield "| `/readyz` | 200 while new clients are welcome, else 503 with the reason in one line |"
    yield "| `/pins` | JSON: clients that are pinned now, statements that pin most often |"
    yield "| `/`, `/status.json` | [the page for people](page.md) and what it reads |"
    yield "| `POST /quitquitquit` | drains and ends; [off by default](deploy.md) |"


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    print(page(), end="")
