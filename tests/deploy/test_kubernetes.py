"""The Kubernetes manifests against Kubernetes' own schemas, and Knative's pods as pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.ecosystem import (
    DEPLOY,
    Document,
    documents,
    package,
    pgfunnel_of,
    pod_of,
    read_documents,
    run,
    tool,
)

_FOLDERS = ["sidecar", "central"]
_OLDEST = "1.29"  # the first with native sidecars on by default


def validate(document: Document) -> None:
    """Against the oldest Kubernetes that is supported and the newest that is known; strictly."""
    kubernetes = package("kubernetes_validate")
    for version in (_OLDEST, kubernetes.latest_version()):
        kubernetes.validate(document, version, strict=True)


@pytest.mark.parametrize("folder", _FOLDERS)
def test_manifests(folder: str) -> None:
    for file in sorted((DEPLOY / "kubernetes" / folder).glob("*.yaml")):
        for document in documents(file):
            if document["kind"] != "Kustomization":
                validate(document)


@pytest.mark.parametrize("folder", _FOLDERS)
def test_kustomize_builds(folder: str) -> None:
    built = run(tool("kubectl", "Kubernetes' client"), "kustomize", DEPLOY / "kubernetes" / folder)
    kinds = {document["kind"] for document in read_documents(built)}
    every = {
        "sidecar": {"Deployment", "Job"},
        "central": {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"},
    }
    assert kinds == every[folder]


def test_a_mistake_is_found() -> None:
    (deployment,) = documents(DEPLOY / "kubernetes" / "sidecar" / "deployment.yaml")
    pod_of(deployment)["initContainers"][0]["restartpolicy"] = "Always"
    with pytest.raises(package("kubernetes_validate").ValidationError):
        validate(deployment)


@pytest.mark.parametrize("name", ["deployment.yaml", "job.yaml"])
def test_the_sidecar_outlives_the_application(name: str) -> None:
    """Native sidecars: init containers with restartPolicy Always, with no preStop."""
    (document,) = documents(DEPLOY / "kubernetes" / "sidecar" / name)
    pod = pod_of(document)
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert "lifecycle" not in sidecar
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/readyz"


def test_an_update_replaces_one_pod_at_a_time() -> None:
    """And the next only when the one before is gone: the bound is shared among replicas + 1."""
    for file in ("sidecar", "central"):
        (deployment,) = documents(DEPLOY / "kubernetes" / file / "deployment.yaml")
        spec = deployment["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        assert spec["minReadySeconds"] > pod_of(deployment)["terminationGracePeriodSeconds"]


def test_pods_are_locked_down() -> None:
    for name in ("sidecar/deployment.yaml", "sidecar/job.yaml", "central/deployment.yaml"):
        (document,) = documents(DEPLOY / "kubernetes" / name)
        pod = pod_of(document)
        security = pgfunnel_of(pod)["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert security["readOnlyRootFilesystem"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["runAsUser"] == 65532


@pytest.mark.parametrize("folder", ["knative", "cloud-run"])
def test_a_knative_template_is_a_pod(folder: str) -> None:
    """Knative's own fields aside, the template of a Service is a Kubernetes pod."""
    (service,) = documents(DEPLOY / folder / "service.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.knative.dev/v1", "Service")
    assert set(service["spec"]) == {"template"}
    spec = pod_of(service)
    for knative in ("containerConcurrency", "timeoutSeconds"):
        assert spec.pop(knative) > 0
    for container in spec["containers"]:
        # Knative fills in the port of a probe of the container that has one.
        for probe in ("readinessProbe", "startupProbe", "livenessProbe"):
            container.get(probe, {}).get("httpGet", {}).setdefault("port", 8080)
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})
    assert [len(container.get("ports", [])) for container in spec["containers"]] == [1, 0]


def test_knative_has_no_probes_on_its_sidecar() -> None:
    """They are a feature flag of Knative's (multi-container-probing), off by default."""
    (service,) = documents(Path(DEPLOY / "knative" / "service.yaml"))
    assert not [key for key in pgfunnel_of(pod_of(service)) if key.endswith("Probe")]
