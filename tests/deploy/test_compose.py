"""Docker Compose: against its specification, and each file it mounts by the tool that reads it."""

from __future__ import annotations

import json
import re

import pytest

from proxy.settings import load
from tests.deploy.ecosystem import DEPLOY, documents, run, tool
from tests.funnel import ROOT

_COMPOSE = DEPLOY / "compose"
_BUILDS = [ROOT / "Dockerfile", _COMPOSE / "locust.Dockerfile"]


def test_the_specification() -> None:
    run(
        tool("check-jsonschema"),
        "--builtin-schema",
        "vendor.compose-spec",
        _COMPOSE / "compose.yaml",
    )


@pytest.mark.parametrize("file", _BUILDS, ids=lambda file: file.name)
def test_hadolint(file: object) -> None:
    run(tool("hadolint"), str(file))


def test_what_is_copied_into_the_image_of_locust_is_there() -> None:
    allowed = (_COMPOSE / "locust.Dockerfile.dockerignore").read_text()
    copies = re.findall(
        r"^COPY (.+) \S+$", (_COMPOSE / "locust.Dockerfile").read_text(), re.MULTILINE
    )
    sources = " ".join(copies).split()
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}\n" in allowed, source


def test_prometheus_reads_its_configuration() -> None:
    """With the rules where Compose mounts them."""
    file = _COMPOSE / "prometheus.yml"
    run(tool("promtool", "Debian's prometheus"), "check", "config", "--syntax-only", file)
    (configuration,) = documents(file)
    for rules in configuration["rule_files"]:
        assert (DEPLOY / "prometheus" / rules.removeprefix("rules/")).exists()


def test_what_is_mounted_is_there() -> None:
    (compose,) = documents(_COMPOSE / "compose.yaml")
    mounts = [
        mount.split(":")[0]
        for service in compose["services"].values()
        for mount in service.get("volumes", [])
        if mount.startswith(".")
    ]
    assert len(mounts) == 4
    for mount in mounts:
        assert (_COMPOSE / mount).exists(), mount


def test_pgfunnel_understands_its_settings_and_drains_in_time() -> None:
    (compose,) = documents(_COMPOSE / "compose.yaml")
    service = compose["services"]["pgfunnel"]
    variables = service["environment"]
    dsn = variables["PGFUNNEL_UPSTREAM"].replace("${POSTGRES_PASSWORD}", "secret")
    settings = load(environ=variables | {"PGFUNNEL_UPSTREAM": dsn})
    assert settings.drain_timeout < int(service["stop_grace_period"].removesuffix("s"))
    assert settings.max_client_conn < service["ulimits"]["nofile"]
    limit = int(compose["services"]["postgres"]["command"][-1].split("=")[1])
    assert settings.max_db_connections < limit


def test_nothing_is_published_beyond_loopback() -> None:
    (compose,) = documents(_COMPOSE / "compose.yaml")
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 5
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_passwords_are_asked_for() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (_COMPOSE / "compose.yaml").read_text()))
    example = set(re.findall(r"^(\w+)=$", (_COMPOSE / ".env.example").read_text(), re.MULTILINE))
    assert asked == example


def test_grafana_finds_its_dashboard_and_source() -> None:
    provisioning = _COMPOSE / "grafana" / "provisioning"
    (provided,) = documents(provisioning / "dashboards" / "pgfunnel.yml")
    (sources,) = documents(provisioning / "datasources" / "prometheus.yml")
    (compose,) = documents(_COMPOSE / "compose.yaml")
    folder = provided["providers"][0]["options"]["path"]
    assert f"../grafana:{folder}:ro" in compose["services"]["grafana"]["volumes"]
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    assert json.loads((DEPLOY / "grafana" / "pgfunnel.json").read_text())["uid"] == "pgfunnel"
