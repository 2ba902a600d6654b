"""What is known of a delivery that is being run."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from app_db.jobs.ledger import Delivery, StartedJob
from app_worker.registry import Handler

type Told = Callable[[str, BaseException | None], None]


@dataclass(slots=True)
class Attempt:
    """What is known of a delivery so far."""

    delivery: Delivery
    job: StartedJob | None = None
    may_have_started: bool = False
    """Whether the start may be on record without our knowing."""
    handler: Handler | None = None
    was_called: bool = False
    """Whether the handler was."""
    progress: Any | None = None  # Any: JSON
    completed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the completion is committed: the rest is for the log."""
    began: float = field(default_factory=time.monotonic)
    spans: ExitStack = field(default_factory=ExitStack)
    told: Told | None = None
    """What hears of the outcome, where the attempt is traced."""

    @property
    def kind(self) -> str:
        """Of the job, where this worker knows it."""
        return self.handler.payload_class.kind if self.handler else "unknown"
