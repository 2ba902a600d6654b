"""What happens, what waits, and what fails."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app_api.console.charts import Chart, stacked_bars
from app_api.console.dependencies import PageDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.dependencies import SessionDep
from app_db import Session
from app_db.features.figures.figures import OUTCOMES, Ended, Figures
from app_db.features.figures.models import Span
from app_db.features.figures.repository import FigureRepository
from app_db.repositories.job_failures import failing_kinds
from app_db.repositories.jobs import JobRepository
from app_db.types import utcnow

router = APIRouter()

LINK = Link("Overview", "/console/overview", order=0)
RUNNING: Final = 10
"""How many of the jobs that run now are listed."""
SIGN_INS: Final = {"signed_in": "signed_in", "sign_in_failed": "refused"}
"""The events of the audit that are charted, and their names."""


DEEPEST: Final = 4
"""How many queues the chart of what waits names; the others are one series."""
OTHERS: Final = "other queues"


class Window(StrEnum):
    """How much time the charts show."""

    HOUR = "hour"
    DAY = "day"
    FORTNIGHT = "fortnight"


@dataclass(frozen=True, slots=True)
class Scale:
    """The bars of a window."""

    span: Span
    step: timedelta
    count: int
    clock: str
    """The format of the times below the bars."""

    @property
    def length(self) -> timedelta:
        """The time of all bars."""
        return self.count * self.step

    def bar_of(self, time: datetime) -> datetime:
        """Return when the bar begins that has this time."""
        seconds = self.step.total_seconds()
        return datetime.fromtimestamp(time.timestamp() // seconds * seconds, UTC)


SCALES: Final = {
    Window.HOUR: Scale(Span.MINUTE, timedelta(minutes=1), 60, "%H:%M"),
    Window.DAY: Scale(Span.HOUR, timedelta(hours=1), 24, "%H:%M"),
    Window.FORTNIGHT: Scale(Span.HOUR, timedelta(hours=6), 56, "%d %b"),
}


@dataclass(frozen=True, slots=True)
class KindFigures:
    """What became of the jobs of one kind."""

    kind: str
    counts: dict[str, int]
    p50: float | None
    p95: float | None


@router.get("/overview")
async def overview(page: PageDep, session: SessionDep, window: Window = Window.HOUR) -> HTMLResponse:
    """Show charts of what ended, what fails since when, what waits and runs, and the workers."""
    shown = await _shown(session, window)
    return page.render("overview.html", window=window, windows=list(Window), **shown)


async def _shown(session: Session, window: Window) -> dict[str, Any]:  # Any: the template's
    now, scale = utcnow(), SCALES[window]
    figures = await FigureRepository(session).recent(scale.span, scale.length + scale.step)
    return {
        "clock": scale.clock,
        "counted": bool(figures),
        "ended": _chart("Jobs that ended", figures, scale, now=now, series=OUTCOMES),
        "sign_ins": _chart("Sign-ins", figures, scale, now=now, series=[*SIGN_INS.values()]),
        "waiting": _depths(figures, scale, now=now),
        "kinds": _by_kind(Figures.sum(now, figures)),
        "failing": await failing_kinds(session, since=now - max(scale.length, timedelta(hours=1))),
        "system": await JobRepository(session).system(running=RUNNING),
    }


async def read_overviews(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return what the windows show that operators look at."""
    known = {one: Window(one.about) for one in watched if one.about in set(Window)}
    shown = {window: await _shown(session, window) for window in set(known.values())}
    return {one: shown[window] for one, window in known.items()}


LIVE = {"overview": Fragment("overview_live.html", read_overviews)}


def _chart(title: str, figures: Iterable[Figures], scale: Scale, *, now: datetime, series: Sequence[str]) -> Chart:
    values: dict[datetime, dict[str, int]] = {}
    for each in figures:
        bar = values.setdefault(scale.bar_of(each.began_at), dict.fromkeys(series, 0))
        events = {SIGN_INS.get(event, event): count for event, count in each.events.items()}
        for name, count in (*each.by_outcome(), *events.items()):
            if name in bar:
                bar[name] += count
    end = scale.bar_of(now) + scale.step
    return stacked_bars(title, values, series=series, end=end, step=scale.step, count=scale.count)


def _depths(figures: Iterable[Figures], scale: Scale, *, now: datetime) -> Chart:
    """Return the chart of the jobs that waited by queue: of a span the most at once, of the deepest queues by name."""
    bars: dict[datetime, Counter[str]] = {}
    for each in figures:
        if each.queues:  # minutes that were counted late have none
            began_at = scale.bar_of(each.began_at)
            bars[began_at] = bars.get(began_at, Counter()) | Counter(each.queues)
    most: Counter[str] = Counter()
    for bar in bars.values():
        most |= bar
    shown = {name: name if place < DEEPEST else OTHERS for place, (name, _) in enumerate(most.most_common())}
    series = [*dict.fromkeys(shown.values())]
    values = {began_at: dict.fromkeys(series, 0) for began_at in bars}
    for began_at, bar in bars.items():
        for name, count in bar.items():
            values[began_at][shown[name]] += count
    end = scale.bar_of(now) + scale.step
    chart = stacked_bars("Waiting", values, series=series, end=end, step=scale.step, count=scale.count)
    return replace(chart, is_level=True)


def _by_kind(total: Figures) -> list[KindFigures]:
    """Return the kinds, those that failed most often first."""
    kinds = sorted({kind for kind, _ in total.ended})
    nothing = Ended()
    found = []
    for kind in kinds:
        counts = {outcome: total.ended.get((kind, outcome), nothing).count for outcome in OUTCOMES}
        timed = total.ended.get((kind, "completed"), nothing)
        found.append(KindFigures(kind, counts, timed.quantile(0.5), timed.quantile(0.95)))
    return sorted(found, key=lambda each: (-each.counts["failed"] - each.counts["discarded"], each.kind))
