"""The streams of a process, which share one poll."""

from collections.abc import AsyncIterator

from app_api.features.jobs.streams import JobStreams


async def job_streams() -> AsyncIterator[JobStreams]:
    """Hold the streams of all clients that follow jobs; they end before the resources close."""
    yield JobStreams()
