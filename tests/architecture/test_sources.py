"""Rules for every source file, checked on its syntax tree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for path in ROOT.glob("packages/*/src/**/*.py"))
LONGEST_FUNCTION = 40
LONGEST_MODULE = 300
# Developers choose the test kit and the place of the Postgres programs by environment variables.
READS_THE_ENVIRONMENT = re.compile("/app_(runtime|db)/testing/")


def long_functions(source: str) -> list[str]:
    """Return the functions with more lines than LONGEST_FUNCTION, without decorators."""
    return [
        f"{node.name} has {length} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    ]


def environment_reads(source: str) -> Iterator[str]:
    """Yield each place that reads the environment: `os.environ`, `os.getenv`, or settings that do it by themselves."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" | "getenvb"):
                yield ast.unparse(node)
            case ast.ImportFrom(module="os", names=names) if {name.name for name in names} & {"environ", "getenv"}:
                yield ast.unparse(node)
            case ast.Name(id="BaseSettings") | ast.Attribute(attr="BaseSettings"):
                yield ast.unparse(node)
            case _:
                continue


def test_no_function_is_longer_than_a_screen() -> None:
    found = {path.name: functions for path in SOURCES if (functions := long_functions(path.read_text()))}

    assert found == {}


def test_a_function_that_is_too_long_is_found() -> None:
    body = "    pass\n" * LONGEST_FUNCTION

    found = long_functions(f"class A:\n  async def long(self):\n{body}")

    assert found == ["long has 41 lines"]


def test_no_module_is_longer_than_a_sitting() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in SOURCES}

    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}


def test_nothing_is_left_to_do_in_a_comment() -> None:
    folders = ("packages", "migrations", "scripts", "tests", "bench")  # not by git: a tarball has none
    left = re.compile(r"#.*\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b")

    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if left.search(path.read_text())]

    assert found == []


def test_only_the_main_modules_read_the_environment() -> None:
    readers = {
        path.relative_to(ROOT / "packages").as_posix()
        for path in SOURCES
        if any(environment_reads(path.read_text())) and not READS_THE_ENVIRONMENT.search(path.as_posix())
    }

    assert readers == {"api/src/app_api/main.py", "worker/src/app_worker/main.py"}


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A']",
        "import os\nos.getenv('A')",
        "from os import environ",
        "class A(pydantic_settings.BaseSettings): ...",
    ],
)
def test_reading_the_environment_is_found_in_each_spelling(source: str) -> None:
    assert list(environment_reads(source))


CLASS_OF_UNICODE = re.compile(r"""pattern=r?["'][^"']*\\[wdsWDS]""")
"""In Rust, which checks pydantic's patterns, each is of all scripts: bounded, one costs a process 6 MB.

`findings/pydantic-unicode-class-costs-megabytes.sh`
"""


def test_patterns_of_fields_name_their_characters() -> None:
    assert [path for path in SOURCES if CLASS_OF_UNICODE.search(path.read_text())] == []


def test_a_pattern_of_all_scripts_is_found() -> None:
    assert CLASS_OF_UNICODE.search('name: Annotated[str, Field(pattern=r"^[\\w.-]{1,64}$")]')
