"""AWS: the template of the functions, and the task that Terraform defines; systemd's unit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from proxy.settings import load
from tests.deploy.ecosystem import DEPLOY, run, tool

_ECS = DEPLOY / "ecs"
_UNIT = DEPLOY / "systemd" / "pgfunnel.service"
_OFFLINE = {"TF_CLI_CONFIG_FILE": "/dev/null", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
_VARIABLES = {
    "image": "registry.example/pgfunnel:0.1.0",
    "upstream_secret_arn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:up-AbCdEf",
    "settings": {"default_pool_size": "12", "drain_timeout": "20"},
    "log_group": "/ecs/pgfunnel",
    "region": "eu-west-1",
}
_APP = {
    "image": "registry.example/app:1.0.0",
    "port": 8080,
    "environment": {"MODE": "production"},
    "secrets": {"DATABASE_URL": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:l-AbCdEf"},
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def containers(tmp_path: Path) -> Path:
    """A copy of the module of container definitions, which needs no provider, made ready."""
    terraform = tool("terraform", "Terraform")
    folder = tmp_path / "containers"
    shutil.copytree(_ECS / "containers", folder)
    run(terraform, "init", "-backend=false", "-no-color", folder=folder, environment=_OFFLINE)
    return folder


def definitions(folder: Path, app: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What Terraform plans for these variables."""
    variables = folder / "test.tfvars.json"
    variables.write_text(json.dumps(_VARIABLES | {"app": app}))
    terraform = tool("terraform")
    plan = ["plan", "-no-color", "-out=plan", f"-var-file={variables}"]
    run(terraform, *plan, folder=folder, environment=_OFFLINE)
    shown = json.loads(run(terraform, "show", "-json", "plan", folder=folder, environment=_OFFLINE))
    output: list[dict[str, Any]] = json.loads(
        shown["planned_values"]["outputs"]["definitions"]["value"]
    )
    return output


def as_cloudformation(value: Any) -> Any:
    """The same with the first letter of each property large, as CloudFormation writes it."""
    if isinstance(value, list):
        return [as_cloudformation(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key[:1].upper() + key[1:]: item if key == "options" else as_cloudformation(item)
        for key, item in value.items()
    }


def lint_task(task: list[dict[str, Any]], folder: Path) -> None:
    """Against the schema of AWS::ECS::TaskDefinition. Fails the test when it does not hold."""
    properties = {
        "Family": "pgfunnel",
        "RequiresCompatibilities": ["FARGATE"],
        "NetworkMode": "awsvpc",
        "Cpu": "512",
        "Memory": "1024",
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/execution",
        "ContainerDefinitions": as_cloudformation(task),
    }
    template = folder / "task.json"
    resource = {"Type": "AWS::ECS::TaskDefinition", "Properties": properties}
    template.write_text(
        json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Task": resource}})
    )
    run(tool("cfn-lint"), template)


def test_lambda_template() -> None:
    run(tool("cfn-lint"), DEPLOY / "lambda" / "template.yaml")


def test_terraform_is_formatted() -> None:
    """Which is to say that it parses; `terraform validate` needs the provider of AWS."""
    run(
        tool("terraform", "Terraform"),
        "fmt",
        "-check",
        "-recursive",
        "-diff",
        _ECS,
        environment=_OFFLINE,
    )


def test_terraforms_own_tests(containers: Path) -> None:
    run(tool("terraform"), "test", "-no-color", folder=containers, environment=_OFFLINE)


@pytest.mark.parametrize("app", [None, _APP], ids=["service", "sidecar"])
def test_the_task_is_one_that_aws_takes(
    containers: Path, tmp_path: Path, app: dict[str, Any] | None
) -> None:
    task = definitions(containers, app)
    lint_task(task, tmp_path)
    pgfunnel = task[0]
    dsn = {"PGFUNNEL_UPSTREAM": "postgresql://app:secret@db.example/app"}
    settings = load(environ=dsn | {one["name"]: one["value"] for one in pgfunnel["environment"]})
    assert settings.default_pool_size == 12
    assert settings.drain_timeout < pgfunnel["stopTimeout"]
    assert ("127.0.0.1" in settings.listen_addr) == (app is not None)


def test_a_mistake_in_the_task_is_found(containers: Path, tmp_path: Path) -> None:
    task = definitions(containers, _APP)
    task[1]["dependsOn"][0]["condition"] = "READY"
    with pytest.raises(AssertionError, match="READY"):
        lint_task(task, tmp_path)


def test_the_module_passes_on_what_the_containers_ask() -> None:
    """What `terraform validate` would say of the one module call."""
    asked = set(
        re.findall(
            r'^variable "(\w+)"', (_ECS / "containers" / "main.tf").read_text(), re.MULTILINE
        )
    )
    call = (_ECS / "main.tf").read_text().split('module "containers" {')[1].split("\n}")[0]
    assert set(re.findall(r"^  (\w+) += ", call, re.MULTILINE)) - {"source"} == asked
    declared = set(
        re.findall(r'^variable "(\w+)"', (_ECS / "variables.tf").read_text(), re.MULTILINE)
    )
    used = set(re.findall(r"\bvar\.(\w+)", (_ECS / "main.tf").read_text()))
    assert used == declared


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """systemd-analyze verify asks for the program and its files too: they are put in place here."""
    analyze = tool("systemd-analyze", "systemd")
    program = shutil.which("true")
    unit = tmp_path / _UNIT.name
    text = _UNIT.read_text()
    assert "/opt/pgfunnel/bin/pgfunnel serve" in text
    unit.write_text(text.replace("/opt/pgfunnel/bin/pgfunnel", str(program)))
    run(analyze, "verify", "--man=no", unit, environment={"SYSTEMD_LOG_LEVEL": "warning"})
    shown = run(analyze, "security", "--offline=true", "--no-pager", "--threshold=20", unit)
    assert "OK" in shown.splitlines()[-1]


def test_systemd_waits_longer_than_the_drain() -> None:
    unit = dict(re.findall(r"^(\w+)=(.+)$", _UNIT.read_text(), re.MULTILINE))
    defaults = load(environ={"PGFUNNEL_UPSTREAM": "postgresql://app:secret@db.example/app"})
    assert int(unit["TimeoutStopSec"]) > defaults.drain_timeout
    assert int(unit["LimitNOFILE"]) > defaults.max_client_conn
