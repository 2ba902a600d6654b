"""The stream of a live page."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app_api.console.dependencies import SignInRequired, get_viewer
from app_api.console.fragments import watched_by
from app_api.console.live import Hub
from app_api.streams import AGAIN
from app_auth.principal import Principal

router = APIRouter()


async def get_watcher(request: Request, after_stream: BackgroundTasks) -> Principal | None:
    """Return who is signed in; None if nobody is, which the stream says itself: a page cannot see a redirect of it.

    Raises:
        Overloaded: there are too many streams.
    """
    try:
        viewer = await get_viewer(request, after_stream)
    except SignInRequired:
        return None
    hub: Hub = request.app.state.console_hub
    hub.require_room(viewer)
    return viewer


@router.get("/live", response_class=EventSourceResponse)
async def live(
    request: Request,
    viewer: Annotated[Principal | None, Depends(get_watcher)],
    watch: Annotated[list[str], Query(max_length=50)],
) -> AsyncIterator[ServerSentEvent]:
    """Send each marked part of a page when it changes: `{"mark": …, "html": …}`; `reload` if nobody is signed in."""
    if viewer is None:
        yield ServerSentEvent(event="reload", data="")
        return
    hub: Hub = request.app.state.console_hub
    yield ServerSentEvent(comment="open", retry=AGAIN)
    watched = watched_by(viewer, watch, hub.fragments)
    hub.process |= {"database": request.state.database, "probe": request.state.readiness_probe}
    async with aclosing(hub.watch(request.state.database, viewer, watched)) as following:
        async for stream in following:
            news, stream.pending = stream.pending, {}
            for part, text in news.items():
                yield ServerSentEvent(event="fragment", data={"mark": part.mark, "html": text})
            if stream.signed_out:
                yield ServerSentEvent(event="reload", data="")
