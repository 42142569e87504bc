"""The report as one HTML file: no script, no external resource, readable on paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from loadtest.lab.charts import Chart, Frame, Line
from loadtest.lab.findings import Findings, codes
from loadtest.lab.steps import NAMED_LEVELS, Result

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff;
  max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; width: 100%; }
.caption { font-size: .84rem; margin: 0 0 .4rem; }
th, td { border: 1px solid #999; padding: .25rem .45rem; text-align: right; vertical-align: top; }
th { background: #eee; } td { white-space: nowrap; } td.words, th.words { text-align: left; }
td.long { white-space: normal; min-width: 10rem; }
.first td { border-top: 2px solid #111; }
.charts { display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: .6rem 0; break-inside: avoid; } figcaption { font-weight: 600; }
h2, h3 { break-after: avoid; }
svg { width: 100%; max-width: 560px; height: auto; } svg text { font-size: 11px; fill: #111; }
.rule { stroke: #ddd; } .limit { stroke: #111; stroke-width: 1.2; stroke-dasharray: 1 3; }
.verdict { border: 2px solid #111; padding: .6rem 1rem; }
@media (max-width: 40rem) {
  .stacked thead { display: none; }
  .stacked tr { display: block; border: 1px solid #999; margin-bottom: .5rem; }
  .stacked td { display: flex; justify-content: space-between; gap: 1rem; border: 0; }
  .stacked td.long { text-align: right; }
  .stacked td::before { content: attr(data-label); color: #555; white-space: nowrap; }
}
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { margin: 0; max-width: none; font-size: 11px; }
  .scroll { overflow: visible; } table { font-size: 9px; } th, td { padding: .15rem .3rem; }
  .charts { grid-template-columns: 1fr 1fr; } tr { break-inside: avoid; }
}
"""
_MS_COLUMNS = ("p50 ms", "p95 ms", "p99 ms")


def render(findings: Findings) -> str:
    """The whole page."""
    sections = (
        _head(findings),
        _levels(findings),
        _steps(findings),
        _queueing(findings),
        _recoveries(findings),
        _charts(findings),
        _state(findings),
        _generators(findings),
        _reading(),
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>pgfunnel: the serverless lab</title><style>{_STYLE}</style></head><body>"
        f"{''.join(sections)}</body></html>\n"
    )


def _head(findings: Findings) -> str:
    about = findings.circumstances
    versions = ", ".join(filter(None, about["paths"].values()))
    facts = (
        f"{about['when']} · Postgres {about.get('postgres', 'not started')}, max_connections "
        f"{findings.limit} · pool of {findings.pool_size} · {versions} · {about['machine']}, "
        f"load average {about['load_average']} at the start · Python {about['python']}"
    )
    return (
        f"<h1>Functions on a Postgres with {findings.limit} connections</h1>"
        f"<p>{escape(facts)}</p>{_verdict(findings)}{_list(findings.notes)}"
    )


def _verdict(findings: Findings) -> str:
    words, lines = findings.verdict(), [*findings.faults(), *findings.doubts()]
    return f'<div class="verdict"><strong>{escape(words)}.</strong>{_list(lines)}</div>'


def _list(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _levels(findings: Findings) -> str:
    rows = [
        (
            f"{NAMED_LEVELS[result.step.functions]} ({result.step.functions})",
            result.path,
            f"{result.tally.invocations:,}",
            _share(result),
            f"{result.peak} of {findings.limit}",
            what_happened(result, findings.limit),
        )
        for result in _of(findings, "level")
        if result.step.functions in NAMED_LEVELS
    ]
    rows.sort(key=lambda row: int(row[0].rpartition("(")[2][:-1]))
    headings = (
        "functions at once",
        "path",
        "invocations",
        "failed",
        "connections",
        "what happened",
    )
    return _section("The four traffic levels", headings, rows, words=(0, 1), long=5, kind="stacked")


def what_happened(result: Result, limit: int) -> str:
    """One sentence about a step."""
    if not result.tally.invocations:
        return "Nothing was measured."
    queue = result.tally.queueing.percentile(95) or 0.0
    if not result.failures:
        peak = f"at most {result.peak} of {limit} connections"
        return f"Nothing failed, on {peak}; queueing p95 {queue:,.0f} ms."
    full = " Postgres was full:" if "53300" in result.tally.failed else ""
    retried = result.tally.refused.total()
    return f"{_share(result)} failed ({codes(result)});{full} {retried:,} attempts in vain."


def _share(result: Result) -> str:
    if not result.failures:
        return "0"
    return f"{result.failures:,} ({result.failures / result.tally.invocations:.1%})"


def _steps(findings: Findings) -> str:
    headings = (
        "step", "path", "invoked", "failed", "by SQLSTATE", "peak conn.", "average conn.",
        "peak clients", "peak waiters", *_MS_COLUMNS, "per second", "pooler's CPU ms",
    )  # fmt: skip
    rows = [
        (
            result.step.name,
            _path(result),
            f"{result.tally.invocations:,}",
            f"{result.failures:,}",
            codes(result) or "-",
            str(result.peak),
            f"{result.average:.1f}",
            _count(result.peak_clients),
            _count(result.peak_waiters),
            *_percentiles(result, "latency"),
            f"{result.throughput:,.0f}",
            _ms(result.pooler_ms),
        )
        for result in _by_step(findings)
    ]
    return _section(
        "Every step",
        headings,
        rows,
        words=(0, 1),
        long=4,
        caption="Connections are what Postgres sees, clients what the pooler has: functions that "
        "keep a connection, frozen ones too. The pooler's CPU is for one invocation, its "
        "connecting included: it says what latencies on a busy machine cannot.",
    )


def _path(result: Result) -> str:
    marks = [*(["cut short"] if result.cut else []), *(["*"] if result.bottleneck else [])]
    return " ".join([result.path, *marks])


def _percentiles(result: Result, name: str) -> Iterable[str]:
    found = getattr(result.tally, name)
    return (_ms(found.percentile(p)) for p in (50, 95, 99))


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _queueing(findings: Findings) -> str:
    waits = ("queueing", "connecting")
    headings = ("step", "path", *(f"{wait} {column}" for wait in waits for column in _MS_COLUMNS))
    rows = [
        (result.step.name, _path(result), *(t for w in waits for t in _percentiles(result, w)))
        for result in _by_step(findings)
    ]
    return _section(
        "Queueing and connecting",
        headings,
        rows,
        words=(0, 1),
        caption="Queueing is the time until BEGIN is answered: a pooler answers it once there is "
        "a server. Connecting is socket, TLS and SCRAM.",
    )


def _recoveries(findings: Findings) -> str:
    rows = [
        (
            result.step.name,
            _path(result),
            _recovery(result),
            f"{result.failures:,}",
            codes(result) or "-",
        )
        for result in _by_step(findings)
        if result.event_at is not None
    ]
    return _section(
        "Recovery",
        ("step", "path", "seconds until as before", "failed in the step", "by SQLSTATE"),
        rows,
        words=(0, 1),
        long=4,
        caption="From the end of the spike, or from the moment Postgres is stopped (it stays away "
        "for a second), until half-seconds without a failure and with a p95 as before follow.",
    )


def _recovery(result: Result) -> str:
    seconds = result.recovery()
    return "not within the step" if seconds is None else f"{seconds:.1f}"


def _charts(findings: Findings) -> str:
    names = list(dict.fromkeys(result.step.name for result in findings.results))
    drawn = "".join(_step_charts(findings, name) for name in names)
    return f"<h2>Over time</h2>{drawn}" if drawn else ""


def _step_charts(findings: Findings, name: str) -> str:
    results = [result for result in findings.results if result.step.name == name]
    limit = ("max_connections", float(findings.limit)) if findings.limit else None
    frame = Frame(max((result.length for result in results), default=0.0), _event(results))
    charts = (
        Chart("connections that Postgres sees", "", _lines(results, "connections"), frame, limit),
        Chart("clients that wait for a server", "", _lines(results, "waiters"), frame),
        Chart("latency p95", "ms, logarithmic", _lines(results, "p95_ms"), frame, log=True),
        Chart("failures", "per half-second", _lines(results, "failures"), frame),
    )
    drawn = "".join(chart.svg() for chart in charts)
    title = escape(name)
    return f'<h3>{title} functions</h3><div class="charts">{drawn}</div>' if drawn else ""


def _event(results: Sequence[Result]) -> tuple[str, float] | None:
    """What the paths must recover from, and when it was; the first path's stands for all."""
    for result in results:
        if result.event_at is not None and result.tally.began is not None:
            name = "Postgres stops" if result.step.restarts else "the spike ends"
            return name, result.event_at - result.tally.began
    return None


def _lines(results: Sequence[Result], name: str) -> list[Line]:
    return [Line(result.path, result.series()[name]) for result in results]


def _state(findings: Findings) -> str:
    rows = []
    for label in dict.fromkeys(result.path for result in findings.results):
        tallies = [result.tally for result in findings.results if result.path == label]
        totals = [check for check in findings.checks if check.path == label]
        rows.append(
            (
                label,
                f"{sum(t.checks for t in tallies):,}",
                f"{sum(t.violation_count for t in tallies):,}",
                f"{sum(t.killed for t in tallies):,}",
                f"{totals[0].totals.orders:,}" if totals else "-",
                ("; ".join(totals[0].faults) or "add up") if totals else "not checked",
            )
        )
    headings = ("path", "state checks", "violations", "killed in mid-transaction", "orders",
        "totals")  # fmt: skip
    return _section("State and totals", headings, rows, words=(0,), long=5)


def _generators(findings: Findings) -> str:
    rows = [
        (
            result.step.name,
            result.path,
            ", ".join(f"{g.cpu_share:.0%}" for g in result.tally.generators),
            ", ".join(f"{g.lag_p99_ms:,.0f}" for g in result.tally.generators),
            f"{result.machine_busy:.0%}",
            _bottleneck(result),
        )
        for result in _by_step(findings)
    ]
    return _section(
        "Was the generator the bottleneck?",
        (
            "step",
            "path",
            "its share of a core",
            "its own delay p99 ms",
            "machine busy",
            "bottleneck",
        ),
        rows,
        words=(0, 1),
        long=5,
        caption="Those with * above. Generator, pooler and Postgres share this machine, with "
        "whoever else runs on it. Functions are a closed loop: one that waits sends nothing "
        "meanwhile, so a slow path is asked less (coordinated omission).",
    )


def _bottleneck(result: Result) -> str:
    if not result.bottleneck:
        return "no"
    return f"yes, the {result.bottleneck}: its latencies are an upper bound"


def _reading() -> str:
    return (
        "<h2>How to read it</h2><p>An invocation fails when its fourth attempt fails, or at once "
        "where a retry makes no sense; its latency has its retries in it. Percentiles are of "
        "invocations that succeeded: where many fail, they are those of the lucky. "
        "Sizing from these figures: loadtest/README.md.</p>"
    )


def _of(findings: Findings, scenario: str) -> list[Result]:
    return [result for result in findings.results if result.step.scenario == scenario]


def _by_step(findings: Findings) -> list[Result]:
    """The paths of a step side by side."""
    names = list(dict.fromkeys(result.step.name for result in findings.results))
    return sorted(findings.results, key=lambda result: names.index(result.step.name))


def _section(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: Sequence[int],
    long: int | None = None,
    kind: str = "",
    caption: str = "",
) -> str:
    """A table. `words` are columns of text, `long` one whose text may take several lines; `kind`
    is `stacked` where narrow screens show one row below the other."""
    if not rows:
        return ""
    looks = ("words long" if n == long else "words" * (n in words) for n in range(len(headings)))
    columns = list(zip(looks, headings, strict=True))
    head = "".join(f'<th class="{look}">{escape(text)}</th>' for look, text in columns)
    befores = ["", *(row[0] for row in rows)]
    body = "".join(
        _row(row, columns, first=row[0] != before)
        for row, before in zip(rows, befores, strict=False)
    )
    note = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return (
        f'<h2>{escape(title)}</h2>{note}<div class="scroll"><table class="{kind}" '
        f'aria-label="{escape(title)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[str], columns: Sequence[tuple[str, str]], first: bool) -> str:
    """`first`: a step begins, which a thicker line tells."""
    told = (
        f'<td class="{look}" data-label="{escape(head)}">{escape(text)}</td>'
        for text, (look, head) in zip(row, columns, strict=True)
    )
    return f'<tr class="{"first" * first}">{"".join(told)}</tr>'
