"""Whether this process traces. Only `traces` imports OpenTelemetry, and only where a collector is named."""

from types import ModuleType
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field
from structlog.typing import Processor

from app_db.configuration import Misconfigured
from app_db.urls import WebAddress

if TYPE_CHECKING:
    from app_db.telemetry.traces import Traces

type Tracing = Traces | None
"""What traces this process; None where nothing does."""


class TracingSettings(BaseModel, frozen=True):
    """`APP_TRACING__…`."""

    endpoint: WebAddress | None = None
    """Where spans go, by OTLP over HTTP, such as `http://collector:4318/v1/traces`; if absent, nothing is traced."""
    sample: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The part of what begins here that is traced; what a traced request leads to is traced with it."""


def traces_of(settings: TracingSettings, *, service: str) -> Tracing:
    """Return what traces this process, which runs the installed distribution `service`, if the settings ask for it.

    Raises:
        Misconfigured: when the extra `tracing` is not installed.
    """
    if settings.endpoint is None:
        return None
    traces: Traces = _traces(service).Traces(str(settings.endpoint), settings.sample, service)
    return traces


def log_processors(settings: TracingSettings, *, service: str) -> list[Processor]:
    """Return what gives each line of the log the id of its trace, if the settings ask for traces.

    Raises:
        Misconfigured: as for `traces_of`.
    """
    return [] if settings.endpoint is None else [_traces(service).add_trace_id]


def _traces(service: str) -> ModuleType:
    try:
        from app_db.telemetry import traces  # noqa: PLC0415  # only who traces pays for it
    except ImportError as error:
        raise Misconfigured(f"APP_TRACING__ENDPOINT: needs {service}[tracing]; {error.name} is missing") from error
    return traces
