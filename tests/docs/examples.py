"""Examples in docstrings: the section `Example:` of a public name, run as it stands.

An example is code that a user would type, with `await` as in a coroutine. It may use the names of its module and those
that the test gives. The example of a fixture is a test, together with fixtures that it overrides.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.docs.checkout import ROOT
from tests.docs.explaining import Block, Names, run_python
from tests.docs.pages import PageError

SECTION = "Example:"


def example_of(name: str) -> Block:
    """Return the example in the docstring of a public name, as `app_db.engine.Database.unit_of_work`.

    Raises:
        PageError: there is no such name, it has no example, or the example does not use it.
    """
    module, path, inner = _home_of(name)
    found = _docstring_of(inner, ast.parse(path.read_text()).body)
    if found is None:
        raise PageError(f"{name}: {module} has no docstring for it")
    lines = str(found.value).split("\n")
    starts = [number for number, line in enumerate(lines, start=1) if line.strip() == SECTION]
    if not starts:
        raise PageError(f"{name}: its docstring has no section `{SECTION}`")
    text = textwrap.dedent("\n".join(_indented_below(lines, starts[0])))
    if inner[-1] not in text:
        raise PageError(f"{name}: its example does not use it")
    return Block(str(path), ("python",), text, "", found.lineno + starts[0] - 1)


async def run_example(name: str, known: Names, fixtures: Names) -> Names:
    """Run the example of a name; return the names that it defines."""
    names = _known_to(name, known | fixtures)
    before = dict(names)
    await run_python(example_of(name), names, fixtures)
    return {key: value for key, value in names.items() if before.get(key) is not value}


def class_of_example(name: str, known: Names) -> type:
    """Return a class for pytest to collect, with the test and the fixtures that the example of a fixture defines."""
    block, names = example_of(name), _known_to(name, known)
    before = dict(names)
    exec(compile("\n" * block.line + block.text, block.where, "exec"), names)  # our own sources
    defined = {key: value for key, value in names.items() if before.get(key) is not value and key != "__builtins__"}
    if not any(key.startswith("test_") for key in defined):
        raise PageError(f"{name}: its example is no test")
    return type("TestExample", (), {key: _member(value) for key, value in defined.items()})


def _member(defined: Any) -> Any:  # Any: a test or a fixture
    """Return a function of an example as a member of a class, without `self`."""
    function = inspect.unwrap(defined)
    return staticmethod(defined) if function is defined else pytest.fixture(staticmethod(function))


def _home_of(name: str) -> tuple[str, Path, Sequence[str]]:
    """Return the module that defines a name, its file, and the name in it, part by part."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        path = "/".join(parts[:end])
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if found := list(ROOT.glob(f"packages/*/src/{file}")):
                return ".".join(parts[:end]), found[0], parts[end:]
    raise PageError(f"{name}: there is no such module")


def _known_to(name: str, known: Names) -> Names:
    module, _, _ = _home_of(name)
    return {**vars(import_module(module)), **known, "__name__": __name__}  # pydantic looks its module up


def _docstring_of(names: Sequence[str], body: list[ast.stmt]) -> ast.Constant | None:
    """Return the docstring of a class, function or method, or the one below an assignment."""
    first, *inner = names
    for node, below in zip_longest(body, body[1:]):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name == first and inner:
                    return _docstring_of(inner, node.body)
                below = node.body[0]  # noqa: PLW2901  # where this kind of statement has it
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                pass
            case _:
                continue
        match below:
            case ast.Expr(value=ast.Constant(value=str()) as text) if name == first:
                return text
    return None


def _indented_below(lines: Sequence[str], start: int) -> Iterator[str]:
    margin = len(lines[start - 1]) - len(lines[start - 1].lstrip())
    for line in lines[start:]:
        if line.strip() and len(line) - len(line.lstrip()) <= margin:
            return
        yield line
