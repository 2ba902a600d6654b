"""Names of a feature that its own files use for something else, as `service` in a feature of services."""

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from generator.errors import Refused
from generator.fields import Field
from generator.files import render
from generator.words import Words

_NEUTRAL: Final = Words("zz_things", "zz_thing")
"""The names of a feature that nothing else has."""


def refuse_clashes(root: Path, words: Words, fields: Sequence[Field]) -> None:
    """Refuse a feature whose name something else has in a function or module of its files.

    Raises:
        Refused: with the name.
    """

    def renamed(name: str) -> str:
        for neutral, own in ((_NEUTRAL.plural, words.plural), (_NEUTRAL.singular, words.singular)):
            name = name.replace(neutral, own)
        return name.replace(_NEUTRAL.model, words.model)

    for path, text in render(root, _NEUTRAL, fields).items():
        if path.suffix == ".py" and (clashes := set(_clashes(ast.parse(text), renamed))):
            raise Refused(
                f"{min(clashes)}: the files of a feature use this name for something else; choose another name, or "
                "another singular=…"
            )


def _clashes(module: ast.Module, renamed: Callable[[str], str]) -> Iterator[str]:
    """Yield the names of the feature that another thing has in the same function, or anywhere in the module."""
    for place in ast.walk(module):
        if isinstance(place, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            others = {name for name in _names(ast.walk(place)) if renamed(name) == name} | {*dir(builtins)}
            nodes = _of_the_module(place) if isinstance(place, ast.Module) else ast.walk(place)
            yield from {renamed(name) for name in _names(nodes) if renamed(name) != name} & others


def _of_the_module(module: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that define names for the whole module."""
    for statement in module.body:
        yield statement
        yield from statement.names if isinstance(statement, ast.ImportFrom | ast.Import) else ()


def _names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Name(id=name) | ast.TypeAlias(name=ast.Name(id=name)) | ast.arg(arg=name) | ast.alias(name=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case _:
                pass
