"""What is packaged, and what the files around the package say of it, agree with each other."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import proxy

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = PYPROJECT["project"], PYPROJECT["tool"]
PXD = sorted((ROOT / "proxy").rglob("*.pxd"))
HOT = [pxd.with_suffix(".py") for pxd in PXD if pxd.stem != "__init__"]
HOT = [source for source in HOT if source.exists()]

NAMES_ALONE = re.compile(r"^(cdef extern |from |cimport |#|\s|$)")
BUNDLED = {"pydantic_core": "pydantic"}  # pydantic pins its core exactly
DOCUMENTS = ("README.md", "CONTRIBUTING.md")


def module_name(source: Path) -> str:
    return ".".join(source.relative_to(ROOT).with_suffix("").parts)


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements}


def imported_packages(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_the_version_is_written_once() -> None:
    assert "version" not in PROJECT
    literal = re.compile(rf"(?<![\d.]){re.escape(proxy.__version__)}(?![\d.])")
    files = [*(ROOT / "proxy").rglob("*.py"), ROOT / "pyproject.toml", ROOT / "Dockerfile"]
    assert [file.name for file in files if literal.search(file.read_text())] == ["__init__.py"]


def test_the_changelog_tells_of_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert proxy.__version__ in headings


def test_the_console_script_exists() -> None:
    module, _, function = PROJECT["scripts"]["pgfunnel"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("pxd", PXD, ids=lambda pxd: str(pxd.relative_to(ROOT)))
def test_a_pxd_has_its_module_or_only_names_c(pxd: Path) -> None:
    if pxd.with_suffix(".py").exists():
        return
    strays = [line for line in pxd.read_text().splitlines() if not NAMES_ALONE.match(line)]
    assert strays == []


def test_pure_runs_the_source_of_every_module() -> None:
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: print(importlib.import_module(name).__file__)\n"
    )
    names = [module_name(source) for source in HOT]
    run = subprocess.run(
        [sys.executable, "-c", code, *names],
        cwd=ROOT,
        env=os.environ | {"PGFUNNEL_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert names
    assert run.stdout.split() == [str(source) for source in HOT]


@pytest.mark.parametrize("source", HOT, ids=module_name)
def test_what_is_compiled_is_current(source: Path) -> None:
    compiled = source.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
    if not compiled.exists():
        pytest.skip("not compiled")
    newest = max(file.stat().st_mtime for file in (source, source.with_suffix(".pxd")))
    assert compiled.stat().st_mtime >= newest, "compiled from older source: run make build"


def test_files_that_are_no_modules_are_packaged() -> None:
    patterns = TOOLS["setuptools"]["package-data"]
    for file in (ROOT / "proxy").rglob("*"):
        if file.is_dir() or file.suffix in (".py", ".pyc", ".so", ".c"):
            continue
        package = ".".join(file.parent.relative_to(ROOT).parts)
        wanted = [*patterns["*"], *patterns.get(package, [])]
        assert any(file.match(pattern) for pattern in wanted), file


def test_every_import_is_declared() -> None:
    declared = distributions(PROJECT["dependencies"])
    extra = declared | distributions(PROJECT["optional-dependencies"]["demo"])
    installed = packages_distributions()
    undeclared = []
    for source in (ROOT / "proxy").rglob("*.py"):
        allowed = extra if "demo" in source.parts else declared
        for package in set(imported_packages(source)) - sys.stdlib_module_names - {"proxy"}:
            names = installed.get(BUNDLED.get(package, package), [package])
            if not {name.lower().replace("_", "-") for name in names} & allowed:
                undeclared.append(f"{module_name(source)} imports {package}")
    assert undeclared == []


def test_the_readme_names_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    commands = [line.partition("#")[0].strip() for line in lines]
    assert "make demo" in commands
    assert "make test" in commands


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_targets_that_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(
        re.findall(r"(?:^|`|=1 )make ([a-z]+)", (ROOT / document).read_text(), re.MULTILINE)
    )
    assert named
    assert named <= targets


def test_the_image_runs_as_somebody_else_and_hears_signals() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["pgfunnel"]' in lines  # a shell in between would swallow SIGTERM
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert int(user.partition(":")[0]) > 0  # numeric: runAsNonRoot cannot check a name
