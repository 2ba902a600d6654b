"""An attempt: one run of one delivery, with its state so far."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from app_db.jobs.ledger import Delivery, StartedJob
from app_worker.registry import Handler

type TraceOutcome = Callable[[str, BaseException | None], None]


@dataclass(slots=True)
class Attempt:
    """One run of one delivery."""

    delivery: Delivery
    job: StartedJob | None = None
    may_have_started: bool = False
    """Whether the start may be committed although Postgres sent no reply."""
    handler: Handler | None = None
    was_called: bool = False
    """Whether the handler was called."""
    progress: Any | None = None  # Any: JSON
    completed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the completion is committed: nothing can change the outcome any more."""
    began: float = field(default_factory=time.monotonic)
    spans: ExitStack = field(default_factory=ExitStack)
    trace_outcome: TraceOutcome | None = None
    """Puts the outcome into the trace, if the attempt is traced."""

    @property
    def kind(self) -> str:
        """The kind of the job, or `unknown` if this worker has no handler for it."""
        return self.handler.payload_class.kind if self.handler else "unknown"

    @property
    def is_encrypted(self) -> bool:
        """Whether the payload is encrypted, so that errors are shown without values."""
        return self.handler is not None and self.handler.payload_class.is_encrypted
