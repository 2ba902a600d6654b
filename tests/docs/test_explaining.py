"""Blocks of Python are run as they stand, and a block that cannot run is an error."""

from pathlib import Path
from typing import Any

import pytest

from tests.docs.explaining import Block, blocks_of, run_python
from tests.docs.pages import Action, PageError


def blocks(folder: Path, text: str) -> list[Block]:
    page = folder / "page.md"
    page.write_text(text)
    return list(blocks_of(page))


async def run(folder: Path, text: str, **fixtures: Any) -> dict[str, Any]:
    names = dict(fixtures)
    for block in blocks(folder, text):
        await run_python(block, names, fixtures)
    return names


async def test_what_a_block_defines_is_there_in_the_next(tmp_path: Path) -> None:
    names = await run(tmp_path, "```python\nx = 1\n```\n\n```python\ny = x + 1\n```\n")

    assert names["y"] == 2


async def test_a_block_may_await(tmp_path: Path) -> None:
    async def two() -> int:
        return 2

    names = await run(tmp_path, "```python\nx = await two()\n```\n", two=two)

    assert names["x"] == 2


async def test_a_test_on_a_page_is_called_once_with_what_it_asks_for(tmp_path: Path) -> None:
    seen: list[int] = []

    await run(
        tmp_path,
        "```python\nasync def test_x(x, seen):\n    seen.append(x)\n```\n\n```python\nz = 3\n```\n",
        x=1,
        seen=seen,
    )

    assert seen == [1]


async def test_a_test_on_a_page_gets_a_fixture_although_the_page_uses_its_name(tmp_path: Path) -> None:
    seen: list[int] = []

    await run(tmp_path, "```python\nx = 2\nasync def test_x(x, seen):\n    seen.append(x)\n```\n", x=1, seen=seen)

    assert seen == [1]


async def test_a_test_on_a_page_that_asks_for_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"page.md:1: test_x asks for rex"):
        await run(tmp_path, "```python\nasync def test_x(rex): ...\n```\n")


async def test_an_error_names_the_line_of_the_page(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as failed:
        await run(tmp_path, "One\n\n```python\nx = 1\nx / 0\n```\n")

    last = failed.traceback[-1]
    assert (str(last.path).endswith("page.md:3"), last.lineno + 1) == (True, 5)


def test_a_block_in_a_language_that_nobody_tries_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="nobody tries a block of 'ruby'"):
        blocks(tmp_path, "```ruby\nx\n```\n")


def test_a_block_is_known_with_the_paragraph_before_it(tmp_path: Path) -> None:
    (excerpt,) = blocks(tmp_path, "One.\n\nIn `x.py`:\n\n```python excerpt\nx = 1\n```\n\n```text\ny\n```\n")

    assert (excerpt.kind, excerpt.paragraph, excerpt.text) == (("python", "excerpt"), "In `x.py`:", "x = 1\n")


def test_sql_is_split_into_its_statements(tmp_path: Path) -> None:
    (sql,) = blocks(tmp_path, "```sql\nSELECT 1;\n-- and\nSELECT 2;\n```\n")

    assert sql.statements == ["SELECT 1", "-- and\nSELECT 2"]


@pytest.mark.parametrize(
    ("info", "action"), [("console", Action.RUN), ("console background", Action.RUN_IN_BACKGROUND)]
)
def test_a_console_block_is_a_step(tmp_path: Path, info: str, action: Action) -> None:
    (console,) = blocks(tmp_path, f"```{info}\n$ true\n```\n")

    assert (console.step.action, console.step.text) == (action, "$ true\n")
