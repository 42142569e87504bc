"""The chart, by Helm itself: lint, schema, and what it renders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import proxy
from proxy.settings import load
from tests.deploy.chart_schema import SCHEMA, current
from tests.deploy.ecosystem import (
    DEPLOY,
    Document,
    environment_of,
    package,
    pgfunnel_of,
    pod_of,
    read_documents,
)
from tests.deploy.test_kubernetes import validate

_CHART = DEPLOY / "helm" / "pgfunnel"
_SIDECAR = {"mode": "sidecar", "app": {"image": "registry.example/app:1"}}
_USERS = {"users": {"secretName": "pgfunnel-users"}}
_FILES = {
    "files": {"secretName": "pgfunnel-tls"},
    "settings": {"server_tls_ca_file": "/etc/pgfunnel/files/ca.crt"},
}
_PARENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: parent
spec:
  selector:
    matchLabels: {app: parent}
  template:
    metadata:
      labels: {app: parent}
    spec:
      initContainers:
        {{- include "pgfunnel.sidecar" .Subcharts.pgfunnel | nindent 8 }}
      containers:
        - name: app
          image: registry.example/app:1
      volumes:
        {{- include "pgfunnel.volumes" .Subcharts.pgfunnel | nindent 8 }}
"""


def render(values: dict[str, Any], chart: Path = _CHART) -> list[Document]:
    """Every manifest for these values, notes left out."""
    with package("helm_python").Chart.load(chart) as loaded:
        rendered = loaded.render(values, name="demo", namespace="default")
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [document for text in texts for document in read_documents(text)]


def deployment(values: dict[str, Any]) -> Document:
    (found,) = [document for document in render(values) if document["kind"] == "Deployment"]
    return found


def test_lint() -> None:
    assert package("helm_python").lint(_CHART)["errors"] == []


def test_it_is_of_this_version() -> None:
    with package("helm_python").Chart.load(_CHART) as chart:
        assert chart.metadata["appVersion"] == proxy.__version__


@pytest.mark.parametrize(
    "values,kinds",
    [
        ({}, {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}),
        (_USERS, {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}),
        (_SIDECAR, {"Deployment"}),
        (_SIDECAR | _USERS, {"Deployment"}),
        (_SIDECAR | _USERS | _FILES, {"Deployment"}),
        ({"mode": "library"}, set()),
    ],
    ids=["central", "central-users", "sidecar", "sidecar-users", "sidecar-files", "library"],
)
def test_each_mode(values: dict[str, Any], kinds: set[str]) -> None:
    manifests = render(values)
    assert {manifest["kind"] for manifest in manifests} == kinds
    for manifest in manifests:
        validate(manifest)


def test_pgfunnel_understands_its_settings() -> None:
    chosen = {
        "settings": {"server_lifetime": 1000000, "upstream_grace": 0.5, "pool_mode": "session"}
    }
    for values in (chosen, _SIDECAR | chosen):
        settings = load(environ=environment_of(pgfunnel_of(pod_of(deployment(values)))))
        assert settings.server_lifetime == 1_000_000
        assert settings.upstream_grace == 0.5
        assert settings.pool_mode == "session"


@pytest.mark.parametrize("most", [1, 4, 7])
def test_the_bound_is_shared_out(most: int) -> None:
    values = {"connections": 60, "replicas": {"min": 1, "max": most}}
    settings = load(environ=environment_of(pgfunnel_of(pod_of(deployment(values)))))
    assert settings.max_db_connections == settings.default_pool_size == 60 // (most + 1)


def test_an_update_waits_until_a_pod_is_gone() -> None:
    for values in ({}, _SIDECAR):
        made = deployment(values)["spec"]
        assert made["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        grace = made["template"]["spec"]["terminationGracePeriodSeconds"]
        assert made["minReadySeconds"] > grace


def test_what_settings_name_is_mounted() -> None:
    for mode in ({}, _SIDECAR):
        pod = pod_of(deployment(mode | _USERS | _FILES))
        container = pgfunnel_of(pod)
        variables = environment_of(container)
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"]}
        found = {
            path: secrets[mounts[str(Path(path).parent)]]
            for path in (
                variables[f"PGFUNNEL_{name}"] for name in ("AUTH_FILE", "SERVER_TLS_CA_FILE")
            )
        }
        assert [*found.values()] == ["pgfunnel-users", "pgfunnel-tls"]


def test_a_sidecar_is_native() -> None:
    (sidecar,) = pod_of(deployment(_SIDECAR))["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert environment_of(sidecar)["PGFUNNEL_LISTEN_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    "values,words",
    [
        ({"mode": "sidecar"}, "/app/image"),
        ({"mode": "both"}, "/mode"),
        ({"connections": 3}, "raise connections or lower replicas.max"),
        ({"replicas": {"min": 5}}, "min must not be more"),
        ({"settings": {"upstream": "postgresql://app:secret@db/app"}}, "upstream"),
        ({"settings": {"nonsense_setting": 1}}, "nonsense_setting"),
        ({"settings": {"PGFUNNEL_POOL_MODE": "session"}}, "PGFUNNEL_POOL_MODE"),
        ({"poolSize": 5}, "poolSize"),
    ],
)
def test_mistakes_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(package("helm_python").HelmError, match=words) as refusal:
        render(values)
    assert "secret" not in str(refusal.value)


def test_the_schema_knows_every_setting() -> None:
    assert SCHEMA.read_text() == current(), "run make docs"


def test_a_label_of_the_charts_own_stays_and_others_come_to_it() -> None:
    labels = {"app.kubernetes.io/name": "mine", "team": "blue"}
    made = deployment({"podLabels": labels})["spec"]
    found = made["template"]["metadata"]["labels"]
    assert found["team"] == "blue"
    assert made["selector"]["matchLabels"].items() <= found.items()


def test_the_application_is_as_confined_as_in_the_plain_manifest() -> None:
    (app,) = pod_of(deployment(_SIDECAR))["containers"]
    assert app["securityContext"]["allowPrivilegeEscalation"] is False
    assert app["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_cancel_reaches_the_replica_of_its_query() -> None:
    (service,) = [document for document in render({}) if document["kind"] == "Service"]
    assert service["spec"]["sessionAffinity"] == "ClientIP"


def test_another_chart_takes_the_sidecar(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    dependency = f"dependencies: [{{name: pgfunnel, version: {proxy.__version__}}}]"
    (tmp_path / "Chart.yaml").write_text(
        f"apiVersion: v2\nname: parent\nversion: 1.0.0\n{dependency}\n"
    )
    (tmp_path / "templates" / "deployment.yaml").write_text(_PARENT)
    shutil.copytree(_CHART, tmp_path / "charts" / "pgfunnel")
    (manifest,) = render({"pgfunnel": {"mode": "library"} | _USERS}, tmp_path)
    validate(manifest)
    (sidecar,) = pod_of(manifest)["initContainers"]
    assert sidecar["volumeMounts"][0]["name"] == pod_of(manifest)["volumes"][0]["name"]
