"""What the files in deploy/ tell pgfunnel, it understands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import proxy
from proxy.settings import Settings, load
from tests.deploy.ecosystem import DEPLOY, documents, environment_of, pgfunnel_of, pods
from tests.funnel import ROOT

_TEXTS = [
    file
    for file in sorted(DEPLOY.rglob("*"))
    if file.is_file() and not {".env", "__pycache__"} & set(file.parts)
]
_PARTS = (
    "cloud-run",
    "compose",
    "ecs",
    "grafana",
    "helm/pgfunnel",
    "knative",
    "kubernetes/central",
    "kubernetes/sidecar",
    "lambda",
    "prometheus",
    "systemd",
)
_SERVED = {"/metrics", "/healthz", "/readyz"}


@pytest.mark.parametrize("file", _TEXTS, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_variables_are_settings(file: Path) -> None:
    named = set(re.findall(r"\bPGFUNNEL_([A-Z_]+)\b", file.read_text()))
    known = {name.upper() for name in Settings.model_fields} | {"PURE", "CONFIG", "PORT"}
    assert named <= known


def test_every_pod_loads() -> None:
    loaded = {name: load(environ=environment_of(pgfunnel_of(pod))) for name, pod in pods()}
    assert len(loaded) == 5
    for name, settings in loaded.items():
        assert settings.max_db_connections, name


def test_sidecars_listen_on_loopback_and_end_in_time() -> None:
    for name, pod in pods():
        container = pgfunnel_of(pod)
        settings = load(environ=environment_of(container))
        assert settings.listen_addr == ("*" if "central" in name else "127.0.0.1"), name
        assert settings.http_addr == "*", name
        grace = pod.get("terminationGracePeriodSeconds", 30)
        before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {"command": ["0"]})
        if "cloud-run" in name:
            grace = 10
        assert settings.drain_timeout + float(before["command"][-1]) < grace, name


def test_probes_ask_what_is_served() -> None:
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    asked = {
        (name, probe): container[probe]["httpGet"]
        for name, pod in pods()
        for container in [pgfunnel_of(pod)]
        for probe in probes
        if probe in container
    }
    assert len(asked) >= 10
    for (name, probe), get in asked.items():
        assert get["path"] in _SERVED, name
        assert get["port"] in ("metrics", 9127), name
        assert (get["path"] == "/healthz") == (probe == "livenessProbe"), name


def test_ports_are_the_defaults() -> None:
    fields = Settings.model_fields
    assert (fields["listen_port"].default, fields["http_port"].default) == (6432, 9127)
    for name, pod in pods():
        for port in pgfunnel_of(pod).get("ports", []):
            assert port["containerPort"] == {"postgres": 6432, "metrics": 9127}[port["name"]], name


def test_images_are_of_this_version() -> None:
    tags = {
        tag
        for file in _TEXTS
        if file.suffix in (".yaml", ".hcl", ".md")
        for tag in re.findall(r"\bpgfunnel:(\d+\.\d[\w.]*)", file.read_text())
    }
    assert tags == {proxy.__version__}
    for mode in ("sidecar", "central"):
        (kustomization,) = documents(DEPLOY / "kubernetes" / mode / "kustomization.yaml")
        assert [image["newTag"] for image in kustomization["images"]] == [proxy.__version__]


def test_every_file_belongs_to_a_part_that_says_what_to_change() -> None:
    parts = [DEPLOY / name for name in _PARTS]
    for part in parts:
        assert "**Change**" in (part / "README.md").read_text(), part
    for file in _TEXTS:
        assert file.name == "README.md" or any(part in file.parents for part in parts), file


def test_links_lead_somewhere() -> None:
    for file in [*DEPLOY.rglob("*.md"), ROOT / "docs" / "deploy.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text()):
            assert (file.parent / target).exists(), f"{file}: {target}"
