"""AWS: the template of the functions, and the task that Terraform defines; systemd's unit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.settings import load
from tests.deploy.ecosystem import DEPLOY, package, run, tool

_ECS = DEPLOY / "ecs"
_UNIT = DEPLOY / "systemd" / "pgfunnel.service"
_PROVIDER = Path(__file__).parent / "provider"
_BUILD_SECONDS = 400
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


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which Terraform takes tests/deploy/provider for AWS's provider."""
    go, folder = tool("go", "Go 1.25"), tmp_path_factory.mktemp("provider")
    build = [go, "build", "-buildvcs=false", "-o", str(folder / "terraform-provider-aws"), "."]
    local = os.environ | {"GOTOOLCHAIN": "local"}
    for command in ([go, "mod", "download"], build):
        done = subprocess.run(
            command,
            cwd=_PROVIDER,
            env=local,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
        if done.returncode != 0 and command is not build:
            pytest.skip(f"Go cannot fetch its modules: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, done.stderr
    configuration = folder / "terraform.rc"
    overrides = f'dev_overrides {{ "hashicorp/aws" = "{folder}" }}'
    configuration.write_text(f"provider_installation {{\n  {overrides}\n}}\n")
    return _OFFLINE | {"TF_CLI_CONFIG_FILE": str(configuration)}


@pytest.fixture
def module(tmp_path: Path, aws: Mapping[str, str]) -> Path:
    """A copy of the whole module, made ready."""
    terraform = tool("terraform", "Terraform")
    folder = tmp_path / "ecs"
    shutil.copytree(_ECS, folder)
    run(terraform, "get", "-no-color", folder=folder, environment=aws)
    return folder


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


def register_task(task: list[dict[str, Any]]) -> None:
    """Against what the API takes. Fails the test when it does not."""
    ecs = package("botocore.session").get_session().get_service_model("ecs")
    asked = ecs.operation_model("RegisterTaskDefinition").input_shape
    parameters = {"family": "pgfunnel", "containerDefinitions": task}
    report = package("botocore.validate").ParamValidator().validate(parameters, asked)
    assert not report.has_errors(), report.generate_report()


def test_lambda_template() -> None:
    run(tool("cfn-lint"), DEPLOY / "lambda" / "template.yaml")


def test_terraform_is_formatted() -> None:
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
    register_task(task)
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
    task[0]["readOnlyRootFilesystem"] = task[0].pop("readonlyRootFilesystem")
    with pytest.raises(AssertionError, match="readOnlyRootFilesystem"):
        register_task(task)


@pytest.mark.timeout(_BUILD_SECONDS + 180)
def test_the_module_is_valid(module: Path, aws: Mapping[str, str]) -> None:
    """By `terraform validate`, against the schema of AWS's provider."""
    run(tool("terraform"), "validate", "-no-color", folder=module, environment=aws)


@pytest.mark.timeout(_BUILD_SECONDS + 180)
def test_the_modules_own_tests(module: Path, aws: Mapping[str, str]) -> None:
    said = run(tool("terraform"), "test", "-no-color", folder=module, environment=aws)
    assert "4 passed, 0 failed" in said


@pytest.mark.timeout(_BUILD_SECONDS + 180)
@pytest.mark.parametrize(
    "right, wrong, words",
    [
        ("launch_type ", "launch_typ ", "launch_typ"),
        ("retention_in_days = 30", 'retention_in_days = "long"', "a number is required"),
        ("registry_arn = service", "arn = service", "registry_arn"),
    ],
)
def test_mistakes_in_the_module_are_found(
    module: Path, aws: Mapping[str, str], right: str, wrong: str, words: str
) -> None:
    text = (module / "main.tf").read_text()
    assert right in text
    (module / "main.tf").write_text(text.replace(right, wrong))
    with pytest.raises(AssertionError, match=words):
        run(tool("terraform"), "validate", "-no-color", folder=module, environment=aws)


def test_each_variable_of_the_module_is_used() -> None:
    names = re.findall(r'^variable "(\w+)"', (_ECS / "variables.tf").read_text(), re.MULTILINE)
    assert set(names) == set(re.findall(r"\bvar\.(\w+)", (_ECS / "main.tf").read_text()))


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
