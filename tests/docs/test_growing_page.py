"""The page about growing names commands, files, settings and tests that exist, and figures that were measured."""

import ast
import pkgutil
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from app_db.fleet import fleet_of, pool_of_worker
from app_db.settings import DatabaseSettings
from tests.docs.checkout import ROOT, reader_environment

PAGE = ROOT / "docs/how-to/growing.md"
TEXT = PAGE.read_text()
STEPS = [
    [cell.strip() for cell in row.strip("|").split("|")]
    for row in TEXT.partition("\n## ")[0].splitlines()
    if row.startswith("| ") and not row.startswith(("| step", "| ---"))
]
CODE = re.findall(r"`([^`]+)`", TEXT)
TESTS = [each for each in CODE if "::" in each]
COMMANDS = [each for each in CODE if each.startswith(("make ", "python ", "docker ", "kubectl "))]
LINK = re.compile(r"\[(?P<text>[^\]]*\d[^\]]*)\]\((?P<file>[^)#]+)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def test_each_step_says_what_to_type_what_was_measured_and_which_test_performs_it() -> None:
    assert len(STEPS) >= 9
    for step in STEPS:
        assert len(step) == 4
        assert all(step), step
        assert "::test_" in step[3], step[0]


@pytest.mark.parametrize("named", TESTS)
def test_each_test_that_it_names_is_there(named: str) -> None:
    file, _, name = named.partition("::")
    defined = {
        node.name
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert name in defined


@pytest.mark.parametrize("named", [each for each in CODE if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", each)])
def test_each_file_that_it_names_is_there(named: str) -> None:
    assert (ROOT / named).is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_known_with_its_options(command: str) -> None:
    match shlex.split(command):
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["docker", "compose", *_]:
            assert (ROOT / "compose.yaml").is_file()
        case ["kubectl", "apply", "-k", folder]:
            assert (ROOT / folder / "kustomization.yaml").is_file()
        case ["python", "-m", module]:
            assert find_spec(module)
        case ["python", "-m", module, *arguments]:
            words = [each for each in arguments if re.fullmatch(r"[a-z]+", each)]
            asked = [sys.executable, "-m", module, *words, "--help"]
            told = subprocess.run(
                asked, cwd=ROOT, env=reader_environment(), capture_output=True, text=True, check=True
            ).stdout
            assert [each for each in arguments if each.startswith("--") and each not in told] == []
        case _:
            pytest.fail(f"no test knows the program of: {command}")


def test_the_settings_and_modules_that_it_names_exist() -> None:
    known = (ROOT / ".env.example").read_text()

    assert [each for each in CODE if each.startswith("APP_") and each.partition("=")[0] not in known] == []
    for each in CODE:
        if re.fullmatch(r"app_\w+(\.\w+)+", each):
            pkgutil.resolve_name(each)


@pytest.mark.parametrize(("text", "file"), LINK.findall(TEXT))
def test_each_figure_is_in_the_page_that_it_links_to(text: str, file: str) -> None:
    there = {*NUMBER.findall((PAGE.parent / Path(file)).read_text())}

    assert {*NUMBER.findall(text)} <= there


def test_the_sums_of_the_fleet_on_paper_are_those_of_the_program() -> None:
    (apis, workers) = map(int, re.findall(r"(\d+) API processes, (\d+) workers", TEXT)[0])
    (connections,) = re.findall(r"open ([\d,]+) connections", TEXT)
    (past,) = re.findall(r"past\s+it go (\d+)", TEXT)
    settings = DatabaseSettings.model_validate({"url": "postgresql://app:secret@127.0.0.1/app"})

    fleet = fleet_of(settings, api_processes=apis, workers=workers, worker_pool=pool_of_worker(10, 1))
    pooled = fleet_of(settings, api_processes=apis, workers=workers, worker_pool=13, sessions_of_pooler=1)

    assert fleet.needed == int(connections.replace(",", ""))
    assert pooled.needed - pooled.pooled == int(past)
