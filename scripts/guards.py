"""Blank each line that a promise rests on, in a copy of the checkout, and see its test fail (`make guards`, ADR-0010).

Such a line ends in `# guard: test_name`. The copies have environments of their own, so that processes
that a test starts run the blanked code too.
"""

import argparse
import ast
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from switches import SwitchError, is_on, off
from warm_pytest import HUNG

ROOT = Path(__file__).resolve().parents[1]
UV = ("sh", str(ROOT / "scripts" / "uv.sh"))
GUARDED = ("packages/*/src/**/*.py", "migrations/**/*.py")
TESTS = ("packages/*/tests/**/test_*.py", "tests/**/test_*.py")
COMMENT = re.compile(r"#.*\bguard: (\w+)")
SECONDS_PER_RUN = 600.0
SECONDS_WITHOUT_THE_LINE = 60
"""A test that still waits then waits in vain for what the line would do. Waits inside an event loop end before."""
WARM_PYTEST = Path(__file__).with_name("warm_pytest.py")


class GuardError(Exception):
    """A guard that cannot be tried; the message says why."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A line, and the test that must fail without it."""

    path: str
    line: int
    test: str

    def __str__(self) -> str:
        """Return the place in a form that editors open."""
        return f"{self.path}:{self.line} {self.test}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the test without the line. Only `red` is good; a test that could not run has proved nothing."""

    guard: Guard
    word: str
    seconds: float


def find_guards(root: Path) -> list[Guard]:
    """Return all guarded lines of the checkout."""
    paths = sorted({path for pattern in GUARDED for path in root.glob(pattern)})
    return [
        Guard(path.relative_to(root).as_posix(), number, found[1])
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (found := COMMENT.search(line))
    ]


def find_tests(root: Path) -> dict[str, list[str]]:
    """Return the pytest ids of all tests by their names."""
    tests: dict[str, list[str]] = defaultdict(list)
    for path in sorted({path for pattern in TESTS for path in root.glob(pattern)}):
        module = ast.parse(path.read_text())
        classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
        for prefix, body in [("", module.body), *((f"{each.name}::", each.body) for each in classes)]:
            for node in body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    tests[node.name].append(f"{path.relative_to(root).as_posix()}::{prefix}{node.name}")
    return tests


def pair(guards: Sequence[Guard], tests: Mapping[str, list[str]]) -> dict[Guard, str]:
    """Return the pytest id of each guard's test.

    Raises:
        GuardError: naming every guard whose test is missing or is not the only one of its name.
    """
    found = {guard: tests.get(guard.test, []) for guard in guards}
    if wrong := [f"{guard}: {len(ids)} tests of this name" for guard, ids in found.items() if len(ids) != 1]:
        raise GuardError("\n".join(wrong))
    return {guard: ids[0] for guard, ids in found.items()}


def first_line(node: ast.stmt) -> int:
    """Return where a statement starts, with its decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def last_line(node: ast.stmt) -> int:
    """Return where a statement ends."""
    return node.end_lineno or node.lineno


def parses(source: str) -> bool:
    """Return whether this is Python."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def blank(source: str, number: int) -> str:
    """Return the source without the code on its line `number`.

    In a statement of several lines only the line is removed, if the rest is Python: an argument, a step of a chain,
    an element. Otherwise the whole statement becomes `pass`.

    Raises:
        GuardError: if there is no code on the line.
    """
    lines = source.splitlines(keepends=True)
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and first_line(node) <= number <= last_line(node)
    ]
    if not around or lines[number - 1].lstrip().startswith("#"):
        raise GuardError("there is no code on the line: a guard trails what it is about")
    statement = min(around, key=lambda node: last_line(node) - first_line(node))
    start, end = first_line(statement), last_line(statement)
    without = "".join([*lines[: number - 1], *lines[number:]])
    if end > start and parses(without):
        return without
    indent = lines[start - 1][: len(lines[start - 1]) - len(lines[start - 1].lstrip())]
    return "".join([*lines[: start - 1], f"{indent}pass\n", *lines[end:]])


class Copy:
    """A copy of the checkout, as it is now, with an environment of its own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        inherited = ("APP_", "COVERAGE_", "PYTEST_", "PYTHONPATH", "VIRTUAL_ENV")
        keep = ("APP_PG_BIN", "APP_DATABASE__URL", "APP_REDIS__URL")
        self.environment = {k: v for k, v in os.environ.items() if k in keep or not k.startswith(inherited)}
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
        for path in [*filter(None, files), "uv.lock"]:
            if (root / path).is_file():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / path, folder / path)
        sync = [*UV, "sync", "--quiet", "--compile-bytecode", "--python", sys.executable]
        subprocess.run(sync, cwd=folder, env=self.environment, check=True)
        self._pytest = subprocess.Popen(
            [folder / ".venv" / "bin" / "python", WARM_PYTEST, str(SECONDS_PER_RUN)],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """Blank the guarded line for a while."""
        path = self.folder / guard.path
        source = path.read_text()
        path.write_text(blank(source, guard.line))
        self._forget_compiled(path)
        try:
            yield
        finally:
            path.write_text(source)
            self._forget_compiled(path)

    def run(self, tests: Sequence[str], *options: str) -> str:
        """Run tests; return `green`, `red` (a test failed), or `error` (none failed, but not all could run)."""
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        assert self._pytest.stdin
        assert self._pytest.stdout
        # Plain asserts: pytest cannot rewrite those of loaded plugins, and nobody reads their messages.
        arguments = ["-q", "--assert=plain", f"--junit-xml={report}", *options, *tests]
        print(json.dumps(arguments), file=self._pytest.stdin, flush=True)
        code = int(self._pytest.stdout.readline())
        if code == HUNG:
            return "hung"
        cases = ET.parse(report).getroot() if report.exists() else ET.Element("none")  # noqa: S314  # pytest wrote it
        if cases.find(".//failure") is not None:
            return "red"
        return "green" if code == 0 else "error"

    def output(self) -> str:
        """Return the end of pytest's output in the last run."""
        return "\n".join((self.folder / "output").read_text(errors="replace").splitlines()[-25:])

    def close(self) -> None:
        """End the process that runs pytest here."""
        self._pytest.communicate()

    @staticmethod
    def _forget_compiled(path: Path) -> None:
        # The import system cannot tell apart two versions of one second and one size.
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()


def try_guard(copies: queue.Queue[Copy], guard: Guard, test: str) -> Verdict:
    """Run the guard's test without its line, in a free copy."""
    copy = copies.get()
    start = time.monotonic()
    try:
        with copy.without(guard):
            word = copy.run([test], f"--timeout={SECONDS_WITHOUT_THE_LINE}")
    except GuardError as error:
        word = str(error)
    finally:
        copies.put(copy)
    return Verdict(guard, word, time.monotonic() - start)


def try_all(root: Path, pairs: Mapping[Guard, str], folder: Path) -> list[Verdict]:
    """Try every guard, two more at a time than there are processors, and print each verdict as it comes.

    Raises:
        GuardError: if a test fails with all lines in place.
    """
    tests = sorted(set(pairs.values()))
    # With your own servers the copies would share one test database.
    parallel = 1 if "APP_DATABASE__URL" in os.environ else min(2 + (os.cpu_count() or 1), len(tests))
    verdicts: list[Verdict] = []
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=parallel) as executor:
        copies = list(executor.map(lambda number: Copy(root, folder / str(number)), range(parallel)))
        for copy in copies:
            stack.callback(copy.close)
        print(f"Running {len(pairs)} guards' tests with all lines in place …", flush=True)
        shares = [tests[number::parallel] for number in range(parallel)]
        for copy, word in zip(copies, executor.map(Copy.run, copies, shares), strict=True):
            if word != "green":
                raise GuardError(f"{copy.output()}\nThe tests must be green before a line is blanked.")
        free: queue.Queue[Copy] = queue.Queue()
        for copy in copies:
            free.put(copy)
        for future in as_completed([executor.submit(try_guard, free, *each) for each in pairs.items()]):
            verdict = future.result()
            verdicts.append(verdict)
            place = f"[{len(verdicts):>2}/{len(pairs)}]"
            print(f"{place} {verdict.word:<6} {verdict.guard} ({verdict.seconds:.0f} s)", flush=True)
    return verdicts


def git(root: Path, *arguments: str) -> str | None:
    """Return the output of git; None if it fails."""
    run = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return run.stdout if run.returncode == 0 else None


def function_around(source: str, number: int) -> str:
    """Return the innermost function around the line, or the line if there is none."""
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and first_line(node) <= number <= last_line(node)
    ]
    lines = source.splitlines(keepends=True)
    if not functions:
        return lines[number - 1]
    function = max(functions, key=first_line)
    return "".join(lines[first_line(function) - 1 : last_line(function)])


def select(root: Path, pairs: Mapping[Guard, str], *, base: str | None) -> dict[Guard, str]:
    """Return all guards; with `base`, only those whose function or test differs from it.

    The code that these call may have changed too: therefore all guards are tried once a night.
    """
    if base is None:
        return dict(pairs)
    if (since := git(root, "merge-base", base, "HEAD")) is None:
        raise GuardError(f"git does not know {base!r}: name a commit, or fetch more history")

    @cache
    def before(path: str) -> str:
        return git(root, "show", f"{since.strip()}:{path}") or ""

    @cache
    def now(path: str) -> str:
        return (root / path).read_text()

    def is_new(guard: Guard, test: str) -> bool:
        path, *_, name = test.split("::")
        defined = re.search(rf"^ *(async )?def {name}\b", now(path), re.MULTILINE)
        assert defined, test
        line = now(path).count("\n", 0, defined.end()) + 1
        return function_around(now(guard.path), guard.line) not in before(guard.path) or function_around(
            now(path), line
        ) not in before(path)

    return {guard: test for guard, test in pairs.items() if is_new(guard, test)}


def report(verdicts: Sequence[Verdict]) -> int:
    """Print the verdicts that are not red; return the exit code."""
    bad = sorted((v for v in verdicts if v.word != "red"), key=lambda verdict: str(verdict.guard))
    print(f"\n{len(verdicts) - len(bad)} of {len(verdicts)} guarded lines turn their test red without them.")
    for verdict in bad:
        print(f"  {verdict.word:<6} {verdict.guard}")
    return 1 if bad else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--changed", nargs="?", const="origin/main", metavar="BASE", help="only what differs from BASE (origin/main)"
    )
    parser.add_argument("--list", action="store_true", help="only pair the lines with their tests")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="only the guards of these tests")
    arguments = parser.parse_args()
    root: Path = arguments.root
    try:
        if not is_on(root, "guards"):
            print(off("guards"))
            return 0
        pairs = select(root, pair(find_guards(root), find_tests(root)), base=arguments.changed)
        pairs = {guard: test for guard, test in pairs.items() if guard.test in (arguments.tests or [guard.test])}
        if arguments.list or not pairs:
            print(*pairs, f"{len(pairs)} guarded lines", sep="\n")
            return 0
        with tempfile.TemporaryDirectory(prefix="guards-") as folder:
            return report(try_all(root, pairs, Path(folder)))
    except (GuardError, SwitchError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
