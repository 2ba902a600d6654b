"""Dependencies that go with a feature: declared, and imported by nothing that is left."""

from pathlib import Path

from generator.dependencies import drop, unused

DECLARED = """\
[project]
name = "app-leaf"
version = "0"
dependencies = [
  "packaging>=26,<27",
  "ruff[x]>=1; python_version > '3'",
  "segno>=1.6,<2",
]

[tool.deptry.per_rule_ignores]
DEP002 = ["ruff"]
"""


def test_what_nothing_imports_is_dropped_and_all_else_stays(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(DECLARED)
    (tmp_path / "src/app_leaf").mkdir(parents=True)
    (tmp_path / "src/app_leaf/__init__.py").write_text("import packaging\n")

    names = unused(tmp_path)
    drop(tmp_path, names)

    assert names == ["segno"]
    assert (tmp_path / "pyproject.toml").read_text() == DECLARED.replace('  "segno>=1.6,<2",\n', "")
