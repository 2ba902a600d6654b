"""Markdown pages as programs: the steps that a page asks of its reader, block by block.

The paragraph right before a fenced block, or its fence, says what to do with it:

    Create `PATH` …                           the block is this new file
    In `PATH`, after the line `LINE`, add …   LINE is there exactly once, however far it is indented
    In `PATH`, before the line `LINE`, add …  as above
    In `PATH`, replace the line `LINE` …      as above
    At the end of `PATH`, add …
    ```console                                lines with `$ ` are run, one that ends in a backslash with the next;
                                              below a command stands what it prints, or nothing
    ```console background                     goes on once it has printed the lines shown, in any order, and runs until
                                              the end, or until a later block with the same command restarts it
    ```text, ```json, ```mermaid, ```… shown  only for reading

In shown output `…` stands for anything within its line, and on a line of its own for any lines. A block that fits none
of these is an error, so that no block of a page stays untested.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

BLOCK = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
FOR_READING = {"text", "json", "mermaid", "shown"}


class PageError(Exception):
    """A step of the page cannot be done, or its result differs from the page; the message names the line."""


class Action(Enum):
    """The action of a reader on a block."""

    CREATE = auto()
    ADD_AFTER = auto()
    ADD_BEFORE = auto()
    REPLACE = auto()
    APPEND = auto()
    RUN = auto()
    RUN_IN_BACKGROUND = auto()


EDITS = {
    Action.CREATE: re.compile(r"\bCreate `(?P<path>[^`]+)`"),
    Action.ADD_AFTER: re.compile(r"\b[Ii]n `(?P<path>[^`]+)`, after the line `(?P<line>[^`]+)`, add\b"),
    Action.ADD_BEFORE: re.compile(r"\b[Ii]n `(?P<path>[^`]+)`, before the line `(?P<line>[^`]+)`, add\b"),
    Action.REPLACE: re.compile(r"\b[Ii]n `(?P<path>[^`]+)`, replace the line `(?P<line>[^`]+)`"),
    Action.APPEND: re.compile(r"\b[Aa]t the end of `(?P<path>[^`]+)`, add\b"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One block, and what to do with it. `path` and `line` are empty where the action has none."""

    action: Action
    where: str
    """The page and the number of the line, for messages."""
    text: str
    path: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block; `shown` is its output as the page shows it, if it does."""

    text: str
    shown: str


def steps_of(page: Path) -> Iterator[Step]:
    """Yield the steps of the page, from top to bottom.

    Raises:
        PageError: at a block that asks for nothing, or for two things.
    """
    content, end = page.read_text(), 0
    for block in BLOCK.finditer(content):
        paragraph = " ".join(content[end : block.start()].strip().rpartition("\n\n")[2].split())
        end = block.end()
        text = re.sub(f"^{block['indent']}", "", block["text"], flags=re.MULTILINE)
        where = f"{page.name}:{content.count('\n', 0, block.start()) + 1}"
        step = _step(where, block["info"].split(), paragraph, text)
        if step is not None:
            yield step


def _step(where: str, info: list[str], paragraph: str, text: str) -> Step | None:
    if info == ["console"]:
        return Step(Action.RUN, where, text)
    if info == ["console", "background"]:
        return Step(Action.RUN_IN_BACKGROUND, where, text)
    if FOR_READING.intersection(info):
        return None
    asked = [(action, match) for action, pattern in EDITS.items() if (match := pattern.search(paragraph))]
    if len(asked) != 1:
        raise PageError(f"{where}: the paragraph before the block asks for {len(asked)} things, not one: {paragraph!r}")
    action, match = asked[0]
    return Step(action, where, text, **match.groupdict())


def commands_of(step: Step) -> list[Command]:
    """Return the commands of a console block.

    Raises:
        PageError: when it does not begin with one.
    """
    if not step.text.startswith("$ "):
        raise PageError(f"{step.where}: a console block begins with a command: `$ …`")
    commands = []
    for part in re.split(r"^\$ ", step.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        last = next(number for number, line in enumerate(lines) if not line.endswith("\\\n"))
        commands.append(Command("".join(lines[: last + 1]).rstrip("\n"), "".join(lines[last + 1 :]).strip("\n")))
    return commands


def pattern_of(shown: str) -> re.Pattern[str]:
    """Return the pattern of shown output: `…` is anything, on a line of its own any number of lines.

    Columns may be wider, since a job that a cron has just enqueued makes a table wider.
    """
    lines = (
        r"(?:.*\n)*?" if line.strip() == "…" else ".*?".join(map(_literal, line.rstrip().split("…"))) + r"[ \t]*\n"
        for line in shown.splitlines()
    )
    return re.compile("".join(lines))


def _literal(text: str) -> str:
    return " {2,}".join(map(re.escape, re.split(r"(?<=\S) {2,}(?=\S)", text)))


def apply_edit(step: Step, root: Path) -> None:
    """Change the file of a step below `root` as its reader would.

    Raises:
        PageError: when the file or the line is not as the page says.
    """
    file = root / step.path
    if step.action is Action.CREATE:
        if file.exists():
            raise PageError(f"{step.where}: {step.path} is there already")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(step.text)
        return
    if not file.is_file():
        raise PageError(f"{step.where}: there is no {step.path}")
    content = file.read_text()
    if step.action is Action.APPEND:
        gap = "\n\n" if file.suffix == ".py" else ""
        file.write_text(f"{content}{gap}{step.text}")
        return
    lines = content.splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.strip() == step.line.strip()]
    if len(found) != 1:
        raise PageError(f"{step.where}: the line {step.line!r} is in {step.path} {len(found)} times, not once")
    first = found[0] + (step.action is Action.ADD_AFTER)
    last = found[0] + (step.action is not Action.ADD_BEFORE)
    lines[first:last] = [step.text]
    file.write_text("".join(lines))
