"""The format of log lines, and values that must not be in them."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from app_runtime.telemetry.logs import LONGEST_LINE, LogSettings, configure_logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Restore the logging of this process after the test."""
    config, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**config)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings())

    structlog.get_logger("app.pets").info("pet_created", name="Rex\r\nlevel=error", size=object)

    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["logger"]) == ("pet_created", "info", "app.pets")
    assert (line["name"], line["size"]) == ("Rex\r\nlevel=error", "<class 'object'>")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("library", ["uvicorn.error", "arq.worker"])
def test_a_record_of_a_library_is_a_line_like_ours(capsys: pytest.CaptureFixture[str], library: str) -> None:
    configure_logging(LogSettings())
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logging.getLogger(library).warning("Invalid %s received.", "request")

        structlog.get_logger("app").warning("ours")

    theirs, ours = lines(capsys)
    assert {name: theirs[name] for name in ("event", "level", "logger", "request_id")} == {
        "event": "Invalid request received.",
        "level": "warning",
        "logger": library,
        "request_id": "r1",
    }
    assert theirs.keys() == ours.keys()


@pytest.mark.parametrize("name", ["ours", "a library's"])
def test_a_trace_shows_no_values(capsys: pytest.CaptureFixture[str], name: str) -> None:
    configure_logging(LogSettings())

    def sign_in(password: str) -> None:
        raise RuntimeError

    try:
        sign_in("hunter2")
    except RuntimeError:
        logger = structlog.get_logger("app") if name == "ours" else logging.getLogger("library")
        logger.exception("failed")

    (line,) = lines(capsys)
    assert line["exception"][0]["exc_type"] == "RuntimeError"
    assert "hunter2" not in json.dumps(line)


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="WARNING"))

    structlog.get_logger("app").info("ours")
    logging.getLogger("library").info("theirs")

    assert lines(capsys) == []


@pytest.mark.parametrize(
    ("settings", "development", "is_json"),
    [
        (LogSettings(), False, True),
        (LogSettings(), True, False),
        (LogSettings(format="json"), True, True),
        (LogSettings(format="console"), False, False),
    ],
)
def test_people_read_the_log_in_development(
    capsys: pytest.CaptureFixture[str], settings: LogSettings, *, development: bool, is_json: bool
) -> None:
    configure_logging(settings, development=development)

    structlog.get_logger("app").info("pet_created")

    assert capsys.readouterr().err.startswith("{") is is_json


def test_an_application_may_add_to_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    def add(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**event, "trace_id": "t1"}

    configure_logging(LogSettings(), more=[add])
    structlog.get_logger("app").info("ours")
    logging.getLogger("library").info("theirs")

    assert [line["trace_id"] for line in lines(capsys)] == ["t1", "t1"]


class FullDisk(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError


def test_a_log_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging(LogSettings())
    monkeypatch.setattr(sys, "stderr", FullDisk())

    structlog.get_logger("app").info("said_to_nobody")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_of_the_log_has_a_size(capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]) -> None:
    """Docker cuts lines into pieces of 16 KiB, and Loki refuses those beyond 256 KiB."""
    configure_logging(LogSettings(format=form))
    log = structlog.get_logger("app")

    try:
        raise ValueError("x" * 5_000_000)
    except ValueError:
        log.exception("job_ended", job_id="j1", values=["y" * 300_000, 3, None], other=Path("z" * 300_000))
    log.info("many", **{f"key_{number}": "v" * 100 for number in range(10_000)})

    first, *_ = written = capsys.readouterr().err.splitlines()
    assert sum(map(len, written)) < 3 * LONGEST_LINE
    assert "characters are missing" in first if form == "json" else "characters are missing" in "".join(written)
    if form == "json":
        one, other = map(json.loads, written)
        assert (one["event"], one["job_id"], one["exception"][0]["exc_type"]) == ("job_ended", "j1", "ValueError")
        assert (other["event"], other["level"]) == ("many", "info")


@pytest.mark.parametrize("form", ["json", "console"])
def test_members_of_enums_are_logged_by_their_values(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    class Colour(Enum):
        RED = "red"

    configure_logging(LogSettings(format=form))

    structlog.get_logger("app").info("request_ended", status=HTTPStatus.NOT_FOUND, colour=Colour.RED)

    line = capsys.readouterr().err
    assert "404" in line
    assert "red" in line
    assert "HTTPStatus" not in line
    assert "Colour" not in line
