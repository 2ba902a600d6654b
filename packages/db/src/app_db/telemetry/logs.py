"""Logging: one event per line, as JSON in production and readable on a terminal (ADR-0049)."""

import json
import logging
import sys
from collections.abc import Sequence
from typing import Literal

import structlog
from pydantic import BaseModel
from structlog.typing import EventDict, Processor, WrappedLogger

# Without the local variables, which structlog shows unless told otherwise: they hold passwords and tokens.
_frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
_encode = json.JSONEncoder(default=repr).encode


class LogSettings(BaseModel, frozen=True):
    """`APP_LOG__…`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest that is written."""
    format: Literal["json", "console"] | None = None
    """If absent, `console` in development and `json` elsewhere."""


class Lines:
    """What structlog's events end in: not the logging module, which costs an access line as much as its request."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        """Write a line to standard error, in one piece. Nothing is raised: a request does not fail with its log."""
        try:
            sys.stderr.write(line + "\n")
        except (OSError, ValueError):  # nobody reads, the disk is full, or it is closed
            return

    debug = info = warning = error = critical = write


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
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
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
    # An encoder that is made once: json.dumps makes one per line where it is told what to do with other types.
    return _encode(event)
