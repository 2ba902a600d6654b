"""Markdown pages that explain: their Python and SQL run as they stand, one block after the other.

    ```python             is run; what it defines is there in the blocks below. A function `test_…` is called with
                          the fixtures that its parameters name
    ```python excerpt     is a piece of a file that the paragraph right before it names
    ```sql                its statements are run
    ```console …          as in tests.docs.pages
    ```text, ```json, …   only for reading

A block in another language is an error, so that no block of a page stays untested.
"""

import ast
import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.docs.pages import BLOCK, FOR_READING, Action, PageError, Step

KINDS = {("python",), ("python", "excerpt"), ("sql",), ("console",), ("console", "background")}

type Names = dict[str, Any]  # Any: whatever a page defines


@dataclass(frozen=True, slots=True)
class Block:
    """One block that is not only for reading."""

    where: str
    """The page and the number of the line, for messages."""
    kind: tuple[str, ...]
    text: str
    paragraph: str
    """The paragraph right before the block."""
    line: int

    @property
    def step(self) -> Step:
        """Return a console block as a step of a performer."""
        return Step(Action.RUN_IN_BACKGROUND if "background" in self.kind else Action.RUN, self.where, self.text)

    @property
    def statements(self) -> list[str]:
        """Return the statements of SQL."""
        return [statement for part in self.text.split(";") if (statement := part.strip())]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks that are not only for reading, from top to bottom.

    Raises:
        PageError: at a block in a language that no test runs.
    """
    content, end = page.read_text(), 0
    for found in BLOCK.finditer(content):
        paragraph = content[end : found.start()].strip().rpartition("\n\n")[2]
        end = found.end()
        kind, line = tuple(found["info"].split()), content.count("\n", 0, found.start()) + 1
        if kind in KINDS:
            yield Block(f"{page.name}:{line}", kind, found["text"], paragraph, line)
        elif not FOR_READING.intersection(kind):
            raise PageError(f"{page.name}:{line}: nobody tries a block of {found['info']!r}")


async def run_python(block: Block, names: Names, fixtures: Names) -> None:
    """Run a block, which may use `names` and `await` at its outermost level; then run the tests that it defines.

    Raises:
        PageError: when one of its tests asks for a fixture that is not there.
    """
    source = "\n" * block.line + block.text  # so that a traceback shows the line of the page
    code = compile(source, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    before = dict(names)
    running = eval(code, names)  # our own page
    if inspect.iscoroutine(running):
        await running
    for name, value in list(names.items()):
        if name.startswith("test_") and before.get(name) is not value:
            await _call(block, value, fixtures)


async def _call(block: Block, test: Callable[..., Awaitable[None]], fixtures: Names) -> None:
    wanted = inspect.signature(test).parameters
    if missing := [name for name in wanted if name not in fixtures]:
        raise PageError(f"{block.where}: {test.__name__} asks for {', '.join(missing)}")
    await test(**{name: fixtures[name] for name in wanted})
