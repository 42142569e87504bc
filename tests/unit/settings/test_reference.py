"""The printed forms are current, and the example is a file that works."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from proxy.settings import Settings, load, reference
from proxy.settings.databases import TABLES
from proxy.settings.types import declared

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    "page, option, text",
    [
        ("settings.md", "--markdown", reference.markdown()),
        ("pgfunnel.example.toml", "--example", reference.example()),
    ],
)
def test_the_docs_are_current(page: str, option: str, text: str) -> None:
    remedy = f"run `pgfunnel settings {option} > docs/{page}`"
    assert (DOCS / page).read_text() == text.rstrip() + "\n", remedy


def test_the_example_with_every_line_in_force(tmp_path: Path) -> None:
    lines = reference.example().splitlines()
    everything = [line[1:] if line[:1] == "#" and line[1:2].isalpha() else line for line in lines]
    everything = [line[1:] if line.startswith("#[") else line for line in everything]
    file = tmp_path / "all.toml"
    file.write_text("\n".join(everything))
    settings = load(environ={}, file=file)
    given = tomllib.loads(file.read_text())
    assert given.keys() == Settings.model_fields.keys()
    plain = given.keys() - {"upstream", *TABLES}
    assert {n: getattr(settings, n) for n in plain} == {n: getattr(Settings(), n) for n in plain}


def test_every_setting_is_explained_in_one_sentence() -> None:
    for name, field in Settings.model_fields.items():
        doc = declared(field).doc
        assert doc.endswith("."), name
        assert "\n" not in doc, name
        assert name in reference.text()
