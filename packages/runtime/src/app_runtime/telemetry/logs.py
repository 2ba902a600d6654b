"""Logging: one event per line, as JSON in production and readable on a terminal (ADR-0049)."""

import json
import logging
import sys
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, Literal

import structlog
from pydantic import BaseModel
from structlog.typing import EventDict, Processor, WrappedLogger

from app_runtime.texts import cut, safe_repr

# Without the local variables, which structlog shows by default: they hold passwords and tokens.
_frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def _plain(value: Any) -> Any:  # Any: any logged value
    """Return the value of a member of an enum, and the `repr` of other objects that JSON does not know."""
    return value.value if isinstance(value, Enum) else safe_repr(value)


_encode = json.JSONEncoder(default=_plain).encode
_ESSENTIAL = ("event", "level", "logger", "timestamp", "job_id", "request_id")

LONGEST_LINE: Final = 64 * 1024
"""Characters. Each text of a longer line is cut, because carriers of logs would refuse or split the line."""
LONGEST_TEXT: Final = 8 * 1024
"""Characters of each text in a line that is too long."""


class LogSettings(BaseModel, frozen=True):
    """`APP_LOG__…`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level that is written."""
    format: Literal["json", "console"] | None = None
    """If absent, `console` in development, else `json`."""


class Lines:
    """Writes structlog's events. The logging module would cost as much for an access line as its request."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        """Write a line to standard error, in one piece. Never raises: a request must not fail with its log."""
        try:
            sys.stderr.write(line + "\n")
        except (OSError, ValueError):  # the reader has gone, the disk is full, or the stream is closed
            return

    debug = info = warning = error = critical = write


class _Console(structlog.dev.ConsoleRenderer):
    def __call__(self, logger: WrappedLogger, name: str, event_dict: EventDict) -> str:
        return cut(super().__call__(logger, name, event_dict), LONGEST_LINE)


def configure_logging(settings: LogSettings, *, development: bool = False, more: Sequence[Processor] = ()) -> None:
    """Send structlog's events and the records of libraries to standard error, in one format.

    `more` are structlog processors that add to every line, such as the id of a trace. May be called again.
    """
    form = settings.format or ("console" if development else "json")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *more,
    ]
    render: list[Processor] = (
        [structlog.processors.ExceptionRenderer(_frames), _render_json]
        if form == "json"
        else [
            _plain_members,
            _Console(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=Lines,
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.level, force=True)


def _render_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    # One encoder for all lines: json.dumps with `default` makes one per line.
    line = _encode(event)
    if len(line) <= LONGEST_LINE:
        return line
    line = _encode(_cut_texts(event, LONGEST_TEXT))  # guard: test_a_line_of_the_log_has_a_size
    if len(line) <= LONGEST_LINE:
        return line
    brief = {name: cut(str(event[name]), 200) for name in _ESSENTIAL if name in event}
    return _encode({**brief, "cut": cut(line, LONGEST_TEXT)})


def _cut_texts(value: Any, limit: int) -> Any:  # Any: JSON
    match value:
        case str():
            return cut(value, limit)
        case dict():
            return {name: _cut_texts(item, limit) for name, item in value.items()}
        case list() | tuple():
            return [_cut_texts(item, limit) for item in value]
        case int() | float() | None:
            return value
        case _:
            return cut(str(_plain(value)), limit)


def _plain_members(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    # `404` and not `<HTTPStatus.NOT_FOUND: 404>`, as in JSON.
    return {name: value.value if isinstance(value, Enum) else value for name, value in event.items()}
