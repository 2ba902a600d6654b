"""scripts/guards.py: it blanks each guarded line where the line runs, and the test that the guard names has to fail."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from guards import GuardError, blank

ROOT = Path(__file__).parents[2]

TREE = {
    "pyproject.toml": """
        [project]
        name = "tree"
        version = "0"
        requires-python = ">=3.13"
        dependencies = ["leaf"]
        [dependency-groups]
        dev = ["pytest>=9", "pytest-timeout>=2.4"]
        [tool.uv]
        package = false
        [tool.uv.workspace]
        members = ["packages/*"]
        [tool.uv.sources]
        leaf = { workspace = true }
    """,
    "packages/leaf/pyproject.toml": """
        [project]
        name = "leaf"
        version = "0"
        requires-python = ">=3.13"
        [build-system]
        requires = ["uv_build>=0.13,<0.14"]
        build-backend = "uv_build"
    """,
    "packages/leaf/src/leaf/__init__.py": """
        def keep(kept: list[str], item: str) -> None:
            kept.append(item)  # guard: test_an_item_is_kept


        def forget(kept: list[str], item: str) -> None:
            kept.remove(item)  # guard: test_an_item_is_forgotten


        def steps() -> list[int]:
            return sorted(
                [3, 1, 2],
                reverse=True,  # guard: test_the_highest_comes_first
            )


        LIMIT = 3  # guard: test_there_is_a_limit
    """,
    "packages/leaf/tests/test_leaf.py": """
        import subprocess
        import sys

        from leaf import LIMIT, forget, keep, steps


        def test_an_item_is_kept():
            code = "import leaf; kept = []; leaf.keep(kept, 'a'); assert kept"
            subprocess.run([sys.executable, "-c", code], check=True)


        class TestForgetting:
            def test_an_item_is_forgotten(self):
                forget(["a"], "a")


        def test_the_highest_comes_first():
            assert steps()[0] == 3


        def test_there_is_a_limit():
            assert LIMIT == 3
    """,
}


def plant(folder: Path) -> Path:
    """Write the tree into `folder` and commit it."""
    for path, content in TREE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(content).lstrip())
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.test")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Plant")


def run_guards(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script on the tree as on a developer's machine: with its embedded servers, if it had any."""
    command = [sys.executable, str(ROOT / "scripts" / "guards.py"), "--root", str(folder), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return plant(tmp_path)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One run over all guards of a tree; it takes two environments, so it is shared."""
    return run_guards(plant(tmp_path_factory.mktemp("tree")))


def verdict_of(run: subprocess.CompletedProcess[str], test: str) -> str:
    line = next(line for line in run.stdout.splitlines() if line.startswith("[") and f" {test} " in line)
    return line.split("]")[1].split()[0]


def test_a_line_whose_test_fails_without_it_is_guarded(tried: subprocess.CompletedProcess[str]) -> None:
    assert verdict_of(tried, "test_the_highest_comes_first") == "red"


def test_a_process_that_the_test_starts_runs_the_blanked_line_too(tried: subprocess.CompletedProcess[str]) -> None:
    assert verdict_of(tried, "test_an_item_is_kept") == "red"


def test_a_test_that_stays_green_is_reported(tried: subprocess.CompletedProcess[str]) -> None:
    assert verdict_of(tried, "test_an_item_is_forgotten") == "green"
    assert "green  packages/leaf/src/leaf/__init__.py:6 test_an_item_is_forgotten" in tried.stdout.split("guarded")[1]


def test_a_test_that_could_not_run_proves_nothing(tried: subprocess.CompletedProcess[str]) -> None:
    assert verdict_of(tried, "test_there_is_a_limit") == "error"


def test_the_run_fails_unless_all_are_red(tried: subprocess.CompletedProcess[str]) -> None:
    assert tried.returncode == 1
    assert "2 of 4 guarded lines" in tried.stdout


def test_a_guard_that_was_found_red_passes(tree: Path) -> None:
    run = run_guards(tree, "test_an_item_is_kept")

    assert run.returncode == 0, run.stdout + run.stderr


def test_a_test_that_is_red_anyhow_proves_nothing(tree: Path) -> None:
    tests = tree / "packages" / "leaf" / "tests" / "test_leaf.py"
    tests.write_text(tests.read_text().replace("assert steps()[0] == 3", "assert steps()[0] == 4"))

    run = run_guards(tree, "test_the_highest_comes_first")

    assert run.returncode == 1
    assert "must be green before" in run.stderr


def test_a_guard_that_names_no_test_is_refused(tree: Path) -> None:
    tests = tree / "packages" / "leaf" / "tests" / "test_leaf.py"
    tests.write_text(tests.read_text().replace("def test_there_is_a_limit", "def test_there_is_no_limit"))

    run = run_guards(tree, "--list")

    assert run.returncode == 1
    assert "leaf/__init__.py:16 test_there_is_a_limit: 0 tests of this name" in run.stderr


def test_a_guard_that_names_two_tests_is_refused(tree: Path) -> None:
    (tree / "tests").mkdir()
    (tree / "tests" / "test_more.py").write_text("def test_there_is_a_limit() -> None: ...\n")

    run = run_guards(tree, "--list")

    assert run.returncode == 1
    assert "2 tests of this name" in run.stderr


def test_only_guards_that_changed_are_tried(tree: Path) -> None:
    more = tree / "packages" / "leaf" / "src" / "leaf" / "more.py"
    more.write_text("MORE = 1  # guard: test_there_is_a_limit\n")

    run = run_guards(tree, "--list", "--changed", "HEAD")

    assert run.stdout.splitlines() == ["packages/leaf/src/leaf/more.py:1 test_there_is_a_limit", "1 guarded lines"]


def test_guards_whose_tests_changed_are_tried(tree: Path) -> None:
    tests = tree / "packages" / "leaf" / "tests" / "test_leaf.py"
    tests.write_text(tests.read_text().replace('forget(["a"], "a")', 'forget(["b"], "b")'))
    commit(tree)

    run = run_guards(tree, "--list", "--changed", "HEAD~1")

    assert run.stdout.splitlines() == [
        "packages/leaf/src/leaf/__init__.py:6 test_an_item_is_forgotten",
        "1 guarded lines",
    ]


def test_guards_in_a_function_that_changed_are_tried(tree: Path) -> None:
    source = tree / "packages" / "leaf" / "src" / "leaf" / "__init__.py"
    source.write_text(source.read_text().replace("[3, 1, 2]", "[2, 3]"))

    run = run_guards(tree, "--list", "--changed", "HEAD")

    assert run.stdout.splitlines()[1:] == ["1 guarded lines"]
    assert "test_the_highest_comes_first" in run.stdout


def test_a_base_that_git_does_not_know_is_refused(tree: Path) -> None:
    run = run_guards(tree, "--list", "--changed", "nowhere")

    assert run.returncode == 1
    assert "'nowhere'" in run.stderr


BLANKED = {
    "a statement": ("if a:\n    b()\n", 2, "if a:\n    pass\n"),
    "a block": ("if a:\n    b()\nc()\n", 1, "pass\nc()\n"),
    "an argument of its own line": ("a(\n    b,\n    c,\n)\n", 2, "a(\n    c,\n)\n"),
    "a step of a chain": ("(\n    a\n    .b()\n    .c()\n)\n", 3, "(\n    a\n    .c()\n)\n"),
    "the head of a call": ("def f():\n    await a(\n        b,\n    )\n", 2, "def f():\n    pass\n"),
    "a decorator": ("@a\ndef f():\n    b()\n", 1, "def f():\n    b()\n"),
    "the head of a tuple": ("def f():\n    a = (1,\n        2)\n    b()\n", 2, "def f():\n    pass\n    b()\n"),
}


@pytest.mark.parametrize(("source", "line", "expected"), BLANKED.values(), ids=BLANKED)
def test_what_is_blanked(source: str, line: int, expected: str) -> None:
    assert blank(source, line) == expected


@pytest.mark.parametrize("source", ["def f():\n    # guard: test_x\n    a()\n", "a()\n\n# guard: test_x\n"])
def test_a_guard_without_code_on_its_line_is_refused(source: str) -> None:
    line = 1 + source[: source.index("#")].count("\n")

    with pytest.raises(GuardError, match="no code"):
        blank(source, line)
