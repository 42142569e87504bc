"""Rules by promtool, and every query by a Prometheus that scrapes a real pgfunnel."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.demo.children import LOOPBACK, die_with_parent, free_port
from proxy.web.metrics import METRICS
from tests.deploy.ecosystem import DEPLOY, documents, package, run, tool
from tests.funnel import Funnel, start_funnel
from tests.integration.observe import until
from tests.postgres import Postgres

_RULES = DEPLOY / "prometheus"
_DASHBOARD = DEPLOY / "grafana" / "pgfunnel.json"
_PACKAGE = "Debian's prometheus"
_SCRAPES = 6

pytestmark = pytest.mark.timeout(180)

_PINS = {
    "pgfunnel_pins_total",
    "pgfunnel_pinned_clients",
    "pgfunnel_pin_seconds",
    "pgfunnel_leaks_total",
}
_EXPORTED = {metric.name for metric in METRICS}
# What a healthy run has no sample of: nobody leaks, and nobody pins in a build that cannot.
_QUIET = {"pgfunnel_leaks_total"} | (_PINS - _EXPORTED)


def queries() -> dict[str, str]:
    """Every query of the dashboard by its panel, with its variables filled in."""
    found = {}
    for panel in json.loads(_DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "1m")
            found[f"{panel['title']} {target['refId']}"] = re.sub(r'"\$\w+"', '".*"', query)
    return found


def metrics_in(text: str) -> set[str]:
    """Names of our metrics in a text, without what a histogram's samples add to them."""
    names = set(re.findall(r"(?<![:\w])(pgfunnel_[a-z_]+)\b", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def rules() -> Iterator[dict[str, Any]]:
    for name in ("recording.yml", "alerts.yml"):
        for group in documents(_RULES / name)[0]["groups"]:
            yield from group["rules"]


def test_the_rules_are_well_formed() -> None:
    promtool = tool("promtool", _PACKAGE)
    run(promtool, "check", "rules", _RULES / "recording.yml", _RULES / "alerts.yml")


def test_the_rules_do_what_they_should() -> None:
    run(tool("promtool", _PACKAGE), "test", "rules", _RULES / "alerts_test.yml")


def test_each_rule_has_a_test() -> None:
    tested = (_RULES / "alerts_test.yml").read_text()
    names = [rule.get("alert") or rule["record"] for rule in rules()]
    assert len(names) == len(set(names)) == 20
    for name in names:
        assert name in tested


def test_each_alert_says_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert set(rule["annotations"]) == {"summary", "action"}
            assert rule["labels"]["severity"] in ("warning", "critical")


@pytest.mark.parametrize("file", ["prometheus/recording.yml", "prometheus/alerts.yml"])
def test_the_rules_metrics_exist(file: str) -> None:
    queried = re.sub(r"(?m)^ *(summary|action):.*$", "", (DEPLOY / file).read_text())
    named = metrics_in(queried)
    assert len(named) >= 7
    assert named <= _EXPORTED | _PINS


def test_the_dashboards_metrics_exist() -> None:
    assert metrics_in(" ".join(queries().values())) <= _EXPORTED | _PINS


def test_the_dashboards_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(_DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def keys(value: Any, path: str = "") -> set[str]:
    """Where a nested value has something, and what that is."""
    if isinstance(value, dict):
        return {key for name, item in value.items() for key in keys(item, f"{path}.{name}")}
    if isinstance(value, list):
        return {key for n, item in enumerate(value) for key in keys(item, f"{path}[{n}]")}
    return {f"{path}={value}"}


def lost_to_grafana(dashboard: dict[str, Any]) -> set[str]:
    """What Grafana's own model of a dashboard has no place for."""
    package("grafana_foundation_sdk.cog.plugins").register_default_plugins()
    model = package("grafana_foundation_sdk.models.dashboard").Dashboard.from_json(dashboard)
    encoder = package("grafana_foundation_sdk.cog.encoder").JSONEncoder
    return keys(dashboard) - keys(json.loads(encoder().encode(model)))


def test_grafana_knows_every_key() -> None:
    dashboard = json.loads(_DASHBOARD.read_text())
    # Written by Grafana beside a variable's query, missing from the model.
    lost = {key for key in lost_to_grafana(dashboard) if "].definition=" not in key}
    assert not lost
    dashboard["panels"][8]["options"]["legend"]["placment"] = "bottom"
    assert ".panels[8].options.legend.placment=bottom" in lost_to_grafana(dashboard)


class Prometheus:
    """A server of its own on a free port that scrapes one pgfunnel and evaluates the rules."""

    def __init__(self, folder: Path, funnel: Funnel) -> None:
        self._url = f"http://{LOOPBACK}:{free_port()}"
        self._log = folder / "prometheus.log"
        self._scraped = f"{funnel.host}:{funnel.http_port}"
        file = folder / "prometheus.json"  # JSON is YAML
        file.write_text(json.dumps(self._configuration()))
        command = [tool("prometheus", _PACKAGE), f"--config.file={file}"]
        command += [f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address={self._url.removeprefix('http://')}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=die_with_parent(signal.SIGKILL)
            )

    def _configuration(self) -> dict[str, Any]:
        return {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
            | {"evaluation_interval": "500ms"},
            "rule_files": [str(_RULES / "recording.yml"), str(_RULES / "alerts.yml")],
            "scrape_configs": [
                {"job_name": "pgfunnel", "static_configs": [{"targets": [self._scraped]}]}
            ],
        }

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; AssertionError with Prometheus's words."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[Any]:
        result: list[Any] = self.get("query", query=expression)["result"]
        return result

    def ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError):  # not yet, or 503
            urllib.request.urlopen(f"{self._url}/-/ready", timeout=10).close()
            return True
        return False

    def scrapes(self) -> int:
        """How often it has scraped with success."""
        found = self.query('sum_over_time(up{job="pgfunnel"}[1h])')
        return int(float(found[0]["value"][1])) if found else 0

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.fixture(scope="module")
def busy_funnel(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Funnel]:
    funnel = start_funnel(postgres, tmp_path_factory.mktemp("pgfunnel"), default_pool_size=2)
    yield funnel
    funnel.stop()
    funnel.check()


@pytest.fixture(scope="module")
def prometheus(
    busy_funnel: Funnel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """One that has seen pgfunnel at work a few times."""
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), busy_funnel)
    try:
        until(server.ready, 40, "Prometheus is ready")
        with working(busy_funnel):
            until(lambda: server.scrapes() >= _SCRAPES, 40, "Prometheus has scraped")
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def working(funnel: Funnel) -> Iterator[None]:
    """Transactions, and some of everything that is counted, until the block ends."""
    done = threading.Event()
    threads = [
        threading.Thread(target=repeat, args=(deed, funnel, done))
        for deed in (transactions, queue, wrong_password, terminate, cancel, listen)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def repeat(deed: Callable[[Funnel], None], funnel: Funnel, done: threading.Event) -> None:
    while not done.wait(0.2):
        with contextlib.suppress(psycopg.Error):
            deed(funnel)


def transactions(funnel: Funnel) -> None:
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as connection:
        for _ in range(20):
            connection.execute("SELECT 1")


def queue(funnel: Funnel) -> None:
    """More than there are servers, so that somebody waits."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(psycopg.connect(funnel.dsn("alice"), autocommit=True))
            for _ in range(4)
        ]
        threads = [
            threading.Thread(target=client.execute, args=("SELECT pg_sleep(0.05)",))
            for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def wrong_password(funnel: Funnel) -> None:
    psycopg.connect(funnel.dsn("alice", password="wrong")).close()


def terminate(funnel: Funnel) -> None:
    """A server that Postgres closes."""
    with psycopg.connect(funnel.dsn("bob"), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def cancel(funnel: Funnel) -> None:
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as connection:
        timer = threading.Timer(0.05, connection.cancel)
        timer.start()
        try:
            connection.execute("SELECT pg_sleep(1)")
        finally:
            timer.join()


def listen(funnel: Funnel) -> None:
    """A pin, where pins are known, that ends."""
    with psycopg.connect(funnel.dsn("alice"), autocommit=True) as connection:
        connection.execute("LISTEN news")
        connection.execute("SELECT pg_sleep(0.05)")
        connection.execute("UNLISTEN news")


@pytest.mark.parametrize("panel", queries())
def test_each_panel_has_data(prometheus: Prometheus, panel: str) -> None:
    query = queries()[panel]
    result = prometheus.query(query)
    if not metrics_in(query) & _QUIET:
        assert any(series["value"][1] != "NaN" for series in result), query


def test_each_variable_has_values(prometheus: Prometheus) -> None:
    """As Grafana's data source asks for `label_values(metric, label)`."""
    variables = json.loads(_DASHBOARD.read_text())["templating"]["list"]
    asked = [v["query"]["query"] for v in variables if v["type"] == "query"]
    assert len(asked) == 4
    for query in asked:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query.replace('"$job"', '".*"'))
        assert found is not None, query
        assert prometheus.get(f"label/{found[2]}/values", **{"match[]": found[1]}), query


def test_each_recording_rule_has_data(prometheus: Prometheus) -> None:
    for rule in rules():
        if "record" in rule:
            assert prometheus.query(rule["record"]), rule["record"]


def test_each_rule_is_evaluated_without_error(prometheus: Prometheus) -> None:
    evaluated = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(evaluated) == len(list(rules()))
    for rule in evaluated:
        assert rule["health"] == "ok", rule


def test_promtool_likes_the_metrics(busy_funnel: Funnel) -> None:
    done = subprocess.run(
        [tool("promtool", _PACKAGE), "check", "metrics"],
        input=busy_funnel.get("/metrics"),
        capture_output=True,
        text=True,
        timeout=30,
    )
    ours = [line for line in done.stderr.splitlines() if line.startswith("pgfunnel_")]
    assert not ours
    assert "error while linting" not in done.stderr
