"""The settings of tracing. OpenTelemetry is imported only if a collector is configured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from pydantic import BaseModel, Field
from structlog.typing import Processor

from app_runtime.configuration import Misconfigured
from app_runtime.urls import WebAddress


class TracingSettings(BaseModel, frozen=True):
    """`APP_TRACING__…`."""

    endpoint: WebAddress | None = None
    """Collector of OTLP over HTTP, such as `http://collector:4318/v1/traces`; if absent, no traces."""
    sample: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Traced share of requests that start here, with their jobs."""


def log_processors(settings: TracingSettings, *, service: str) -> list[Processor]:
    """Return the log processor that adds the trace id to each line, if traces are enabled.

    Raises:
        Misconfigured: when the extra `tracing` is not installed.
    """
    if settings.endpoint is None:
        return []
    with naming_extra(service):
        from app_runtime.telemetry.traces import add_trace_id  # noqa: PLC0415  # only who traces pays for it
    return [add_trace_id]


@contextmanager
def naming_extra(service: str) -> Iterator[None]:
    """Turn a failed import in the block into an error that names the missing extra of the distribution `service`.

    Raises:
        Misconfigured: for a failed import.
    """
    try:
        yield
    except ImportError as error:
        raise Misconfigured(f"APP_TRACING__ENDPOINT: needs {service}[tracing]; {error.name} is missing") from error
