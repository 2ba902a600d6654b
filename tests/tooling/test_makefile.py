"""The Makefile: typed variables count, exported ones do not, and a message arrives as it was typed."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mako.template import Template

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def make(*arguments: str, **exported: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **exported}, capture_output=True, text=True, check=False
    )


def would_run(*arguments: str, **exported: str) -> str:
    """Return the last command that make would run."""
    run = make("--dry-run", *arguments, **exported)
    assert run.returncode == 0, run.stderr
    return " ".join(run.stdout.splitlines()[-1].split())


SWITCHES = [
    ("dev", "RESET", "--reset"),
    ("release", "YES", "--yes"),
    ("test", "COVERAGE", "coverage run"),
    ("test-e2e", "AGAIN", "--last-failed"),
    ("bench-jobs", "LONG", "--long"),
]


@pytest.mark.parametrize(("target", "name", "effect"), SWITCHES)
def test_what_deletes_or_releases_is_switched_on_by_a_typed_1_alone(target: str, name: str, effect: str) -> None:
    """RESET is what some shells call the sequence that ends a colour (`export RESET=$(tput sgr0)`)."""
    assert effect in would_run(target, f"{name}=1")
    assert effect not in would_run(target, f"{name}=0")
    assert effect not in would_run(target, f"{name}=")
    assert effect not in would_run(target, **{name: "1"})


@pytest.mark.parametrize(("target", "name", "effect"), SWITCHES)
@pytest.mark.parametrize("value", ["yes", "false", "no", "2", "1 1x", "-1"])
def test_a_switch_that_is_neither_1_nor_0_is_refused_in_a_sentence(
    target: str, name: str, effect: str, value: str
) -> None:
    run = make("--dry-run", target, f"{name}={value}")

    assert run.returncode != 0
    assert f"{name} is switched on by {name}=1, and by nothing else." in run.stderr
    assert effect not in run.stdout


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("test-isolated", "PACKAGE"),
        ("release", "PACKAGE"),
        ("release", "BUMP"),
        ("guards", "CHANGED"),
        ("test-e2e", "CHANGED"),
        ("test-tools", "CHANGED"),
        ("check-fragments", "BASE"),
        ("lock", "UNTIL"),
        ("bench-jobs", "ONLY"),
        ("bench-peers", "ONLY"),
        ("bench-peers", "JSON"),
        ("bench-failover", "ONLY"),
    ],
)
def test_what_a_shell_has_exported_names_nothing(target: str, name: str) -> None:
    assert "exported" in make("--dry-run", target, f"{name}=exported").stdout
    assert "exported" not in make("--dry-run", target, **{name: "exported"}).stdout


def test_every_variable_that_somebody_may_set_goes_through_the_functions_that_ask_where_it_comes_from() -> None:
    own = set(re.findall(r"^([A-Za-z_]+) *:?=", MAKEFILE, re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\((\w+)\)", MAKEFILE))

    assert used - own - {"1", "2", "each"} == set()
    typed = set(re.findall(r"\$\(call (?:typed|quoted|on|listed),(\w+)", MAKEFILE)) - {"1"}
    (unexported,) = re.findall(r"^unexport (AGAIN .*)$", MAKEFILE, re.MULTILINE)
    assert typed <= set(unexported.split()), "make runs calls of its own that stand in a variable that it exports"


def test_no_file_of_the_name_of_a_target_keeps_make_from_running_it() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)

    assert targets == {*phony.replace("\\", "").split()}


@pytest.mark.parametrize("text", ["a b", "$(id)", "`id`", "it's", '"quoted"', "a;b", "$HOME", "$(shell touch pwned)"])
@pytest.mark.parametrize(
    ("target", "name"),
    [("guards", "CHANGED"), ("check-fragments", "BASE"), ("lock", "UNTIL"), ("bench-jobs", "ONLY")],
)
def test_a_text_reaches_the_program_as_one_argument_as_it_was_typed(
    target: str, name: str, text: str, tmp_path: Path
) -> None:
    shown = show_arguments(tmp_path, target, f"{name}={text}")

    assert text in shown
    assert not (ROOT / "pwned").exists()


MESSAGES = [
    "add pets",
    'add "pets"',
    "don't",
    "$(id) `id` $HOME $$ \\ # !",
    "$(shell touch pwned)",
    "-x",
    "two\nlines",
    "Füße 💶",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_revision_is_given_its_message_as_it_was_typed(message: str, tmp_path: Path) -> None:
    shown = show_arguments(tmp_path, "revision", f"m={message}")

    assert f"--message={message}" in shown
    assert not (ROOT / "pwned").exists()


@pytest.mark.parametrize("text", [*MESSAGES, "url:str title:str? tags:list[str]"])
def test_a_feature_is_given_its_name_and_fields_as_they_were_typed(text: str, tmp_path: Path) -> None:
    shown = show_arguments(tmp_path, "feature", f"name={text}", f"fields={text}", f"singular={text}")

    assert shown[1:] == ["add", f"--name={text}", f"--fields={text}", f"--singular={text}"]
    assert show_arguments(tmp_path, "feature-remove", f"name={text}")[1:] == ["remove", f"--name={text}"]
    assert not (ROOT / "pwned").exists()


def test_a_feature_is_not_named_by_what_a_shell_has_exported() -> None:
    run = make("feature", "--assume-old=install", name="bookmarks", fields="url:str")

    assert run.returncode != 0
    assert "'' cannot name a feature" in run.stderr


def test_a_message_that_a_shell_has_exported_is_none() -> None:
    run = make("revision", m="drop everything")

    assert run.returncode != 0
    assert run.stdout == 'Say what it does: make revision m="add pets"\n'


@pytest.mark.parametrize("message", [*MESSAGES, 'say """hello"""', '"start', "end\\"])
def test_a_message_is_what_the_revision_says_of_itself(message: str) -> None:
    """The message is quoted for Python when it is written into the revision."""
    text = Template(filename=str(ROOT / "migrations/script.py.mako")).render(
        message=message,
        up_revision="1",
        down_revision=None,
        create_date="",
        imports="",
        upgrades="",
        downgrades="",
        comma=str,
    )

    assert (ast.get_docstring(ast.parse(text)) or "").startswith(message)


@pytest.mark.parametrize("door", ["jobs", "api"])
@pytest.mark.parametrize("text", [*MESSAGES, "enqueue jobs.prune '{}'", ""])
def test_a_door_to_a_command_line_is_given_its_arguments_as_they_were_typed(
    door: str, text: str, tmp_path: Path
) -> None:
    shown = show_arguments(tmp_path, door, f"ARGS={text}")

    assert shown == ["scripts/dev.py", door, f"--arguments={text}"]
    assert not (ROOT / "pwned").exists()


@pytest.mark.parametrize(("door", "module"), [("jobs", "app_worker"), ("api", "app_api")])
def test_a_door_without_arguments_shows_what_there_is(door: str, module: str) -> None:
    run = make(door, ARGS="run")

    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"usage: python -m {module} [-h] COMMAND ...")


@pytest.mark.parametrize("target", ["jobs", "api", "psql", "shell", "seed", "migrate"])
def test_where_nothing_is_installed_it_is_said_what_to_type(target: str, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)

    run = subprocess.run(
        ["make", "--no-print-directory", target], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert run.returncode != 0
    assert run.stdout == "Nothing is installed in this checkout: type `make dev` in another terminal first\n"


def test_a_command_line_is_asked_for_help_where_nothing_runs() -> None:
    assert "--state STATE" in make("jobs", "ARGS=list --help").stdout


def test_arguments_whose_quotes_do_not_close_are_refused_in_a_sentence() -> None:
    run = make("jobs", "ARGS=enqueue jobs.prune '{}")

    assert run.returncode != 0
    assert run.stderr.startswith("make jobs: ARGS cannot be read: no closing quotation\n")


def show_arguments(folder: Path, *arguments: str) -> list[str]:
    """Return the arguments of the recipe's last program, which is not run."""
    show = folder / "show.py"
    show.write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program = shlex.join([sys.executable, str(show)])
    run = make("--silent", *arguments, f"VENV={program}", f"IN_DEV={program}", "--assume-old=install")
    assert run.returncode == 0, run.stderr
    found: list[str] = json.loads(run.stdout.splitlines()[-1])
    return found
