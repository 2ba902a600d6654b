"""Pages are performed as they are written, and a step that fails or differs is an error."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.docs.checkout import copied_checkout
from tests.docs.pages import Action, PageError, commands_of, pattern_of, steps_of
from tests.docs.performing import reader


def page(folder: Path, text: str) -> Path:
    file = folder / "page.md"
    file.write_text(text)
    return file


def perform(folder: Path, text: str, **replace: str) -> None:
    with reader(folder, env={"PATH": os.environ["PATH"]}, replace=replace) as performer:
        performer.perform(page(folder, text))


def test_a_block_is_created_as_the_file_that_is_named_before_it(tmp_path: Path) -> None:
    perform(tmp_path, "Some reason.\n\nCreate `a/b.txt`:\n\n```python\nx = 1\n```\n")

    assert (tmp_path / "a/b.txt").read_text() == "x = 1\n"


def test_a_file_that_is_there_is_not_created_again(tmp_path: Path) -> None:
    (tmp_path / "b.txt").touch()

    with pytest.raises(PageError, match=r"page.md:3: b.txt is there already"):
        perform(tmp_path, "Create `b.txt`:\n\n```python\nx = 1\n```\n")


def test_lines_are_added_replaced_and_appended_where_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("one\n  two\nthree\n")

    perform(
        tmp_path,
        "In `b.txt`, after the line `two`, add:\n\n```text2\n  and a half\n```\n\n"
        "In `b.txt`, before the line `one`, add:\n\n```text2\nzero\n```\n\n"
        "In `b.txt`, replace the line `three` with two:\n\n```text2\n3\n4\n```\n\n"
        "At the end of `b.txt`, add:\n\n```text2\n5\n```\n",
    )

    assert (tmp_path / "b.txt").read_text() == "zero\none\n  two\n  and a half\n3\n4\n5\n"


def test_what_is_appended_to_python_stands_two_lines_apart(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("x = 1\n")

    perform(tmp_path, "At the end of `b.py`, add:\n\n```python\ndef f(): ...\n```\n")

    assert (tmp_path / "b.py").read_text() == "x = 1\n\n\ndef f(): ...\n"


@pytest.mark.parametrize("content", ["", "two\ntwo\n"])
def test_a_line_that_is_not_there_exactly_once_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "b.txt").write_text(content)

    with pytest.raises(PageError, match="not once"):
        perform(tmp_path, "In `b.txt`, after the line `two`, add:\n\n```python\nx\n```\n")


def test_a_block_that_asks_for_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="asks for 0 things"):
        list(steps_of(page(tmp_path, "As we all know:\n\n```python\nx = 1\n```\n")))


def test_a_block_that_is_only_shown_asks_for_nothing(tmp_path: Path) -> None:
    assert not list(steps_of(page(tmp_path, "As we all know:\n\n```python shown\nx = 1\n```\n\n```json\n{}\n```\n")))


def test_a_variable_lives_on_in_the_next_block(tmp_path: Path) -> None:
    perform(tmp_path, "```console\n$ NAME=Rex\n```\n\n```console\n$ echo $NAME\nRex\n```\n")


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="exit code 3"):
        perform(tmp_path, "```console\n$ (exit 3)\n```\n")


def test_output_that_differs_from_what_is_shown_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"page.md:3: 'echo Max'"):
        perform(tmp_path, "Call it:\n\n```console\n$ echo Max\nRex\n```\n")


def test_a_place_that_differs_here_is_replaced_in_commands_and_in_what_they_print(tmp_path: Path) -> None:
    with reader(tmp_path, env={"PATH": os.environ["PATH"]}, replace={":8000": ":4711"}) as performer:
        performer.perform(
            page(tmp_path, "```console\n$ echo localhost:8000; test :8000 = :4711\nlocalhost:8000\n```\n")
        )


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("a … c", "a b c\n"), ("a\n…\nd", "a\nb\nc\nd\n"), ("a\n…", "a\n"), ("…\nd", "d\n"), ("1.5 (x)", "1.5 (x)  \n")],
)
def test_an_ellipsis_stands_for_anything(shown: str, printed: str) -> None:
    assert pattern_of(shown).fullmatch(printed)


def test_a_column_may_be_wider_than_shown() -> None:
    shown = "QUEUE    STATE\ndefault  done"
    assert pattern_of(shown).fullmatch("QUEUE      STATE\ndefault    done\n")
    assert not pattern_of(shown).fullmatch("QUEUE STATE\ndefault done\n")
    assert not pattern_of("a:\n  b").fullmatch("a:\n    b\n")


@pytest.mark.parametrize(("shown", "printed"), [("a … c", "a\nc\n"), ("a", "a\nb\n"), ("1.5", "125\n")])
def test_an_ellipsis_in_a_line_does_not_reach_into_the_next(shown: str, printed: str) -> None:
    assert not pattern_of(shown).fullmatch(printed)


def test_a_backslash_continues_a_command_in_the_next_line(tmp_path: Path) -> None:
    step = next(steps_of(page(tmp_path, "```console\n$ echo a \\\n    b\na b\n$ true\n```\n")))

    commands = commands_of(step)

    assert [(command.text, command.shown) for command in commands] == [("echo a \\\n    b", "a b"), ("true", "")]
    assert step.action is Action.RUN


def test_what_a_page_waits_for_may_take_longer(tmp_path: Path) -> None:
    perform(tmp_path, "```console\n$ sleep 0.1\n$ echo >>lines; grep -c '' lines\n3\n```\n")


def test_what_a_page_does_not_wait_for_is_there_at_once(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="is shown to print"):
        perform(tmp_path, "```console\n$ true\n$ echo >>lines; grep -c '' lines\n3\n```\n")


def test_a_command_in_the_background_is_restarted_by_its_next_block_and_ends_with_the_page(tmp_path: Path) -> None:
    start = "```console background\n$ bash serve\n…\nready\n```\n"
    (tmp_path / "serve").write_text(
        "trap 'echo stop >> log; exit' INT\necho start >> log\necho ready\nwhile :; do sleep 0.1; done\n"
    )

    perform(
        tmp_path,
        f"{start}\n```console\n$ cat log\nstart\n```\n\n{start}\n```console\n$ cat log\nstart\nstop\nstart\n```\n",
    )

    assert (tmp_path / "log").read_text().split() == ["start", "stop", "start", "stop"]


def test_lines_of_a_background_command_come_in_any_order(tmp_path: Path) -> None:
    perform(tmp_path, "```console background\n$ echo one; echo two; sleep 60\ntwo\none\n```\n")


def test_a_background_command_that_ends_before_it_is_ready_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="but prints"):
        perform(tmp_path, "```console background\n$ echo no\nready\n```\n")


def test_a_copy_of_the_checkout_has_what_git_would_commit_and_nothing_else() -> None:
    with copied_checkout() as copy:
        names = {file.name for file in copy.iterdir()}
        changes = subprocess.run(["git", "status", "--porcelain"], cwd=copy, check=True, stdout=subprocess.PIPE).stdout

    assert {"pyproject.toml", "packages", "migrations"} <= names
    assert not {".venv", ".data"} & names
    assert changes == b""
    assert not copy.exists()
