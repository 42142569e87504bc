"""The tools of the ecosystems that deploy/ is for, and what its files say to pgfunnel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.funnel import ROOT

DEPLOY = ROOT / "deploy"
Document = dict[str, Any]


def tool(name: str, comes_with: str = "pip install '.[deploy]'") -> str:
    """The path of a command, next to this Python or in PATH; skips where there is none."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} ({comes_with})")
    return found


def package(name: str) -> Any:
    """An imported package of the deploy extra; skips where it is not installed."""
    return pytest.importorskip(name, reason=f"no {name} (pip install '.[deploy]')")


def run(
    *command: str | Path, folder: Path = ROOT, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command and return what it printed. Fails the test when it fails."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=os.environ | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def documents(file: Path) -> list[Document]:
    """Every document of a YAML file."""
    return read_documents(file.read_text())


def read_documents(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


def pod_of(document: Document) -> Document:
    """The pod's specification in a Deployment, Job or Knative Service; empty in others."""
    template = document.get("spec", {}).get("template", {})
    return template.get("spec", {}) if isinstance(template, dict) else {}


def pgfunnel_of(pod: Document) -> Document:
    """The one container of a pod that is pgfunnel."""
    every = [*pod.get("initContainers", []), *pod.get("containers", [])]
    (container,) = [container for container in every if container["name"] == "pgfunnel"]
    return dict(container)


def environment_of(container: Document) -> dict[str, str]:
    """The image's variables and the container's; what comes from a secret is a DSN."""
    dsn = "postgresql://app:secret@db.example:5432/app"
    image = dict(re.findall(r'(PGFUNNEL_\w+)="([^"]*)"', (ROOT / "Dockerfile").read_text()))
    return image | {item["name"]: item.get("value", dsn) for item in container["env"]}


def pods() -> Iterator[tuple[str, Document]]:
    """Every pod in deploy/ that has pgfunnel in it, by the name of its file."""
    for folder in ("kubernetes", "knative", "cloud-run"):
        for file in sorted((DEPLOY / folder).rglob("*.yaml")):
            for document in documents(file):
                if pod := pod_of(document):
                    yield str(file.relative_to(DEPLOY)), pod
