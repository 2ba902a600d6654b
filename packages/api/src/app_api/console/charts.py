"""Charts, drawn here as SVG: the geometry of stacked bars over time, for the macro in `charts.html`.

Sizes are shares of the height and width in per cent, so that a chart fits any screen. Labels are text of the page, not
of the picture, and the numbers are in a table behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, log10
from typing import Final

GAP: Final = 0.2
"""The share of a bar's place that stays empty."""
MOST_LABELS: Final = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle of one series."""

    name: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What is known of one span of time; `values` is None if nobody counted then."""

    began_at: datetime
    values: Mapping[str, int] | None
    pieces: tuple[Piece, ...]
    x: float
    width: float

    @property
    def total(self) -> int:
        """The sum of all series."""
        return sum((self.values or {}).values())


@dataclass(frozen=True, slots=True)
class Chart:
    """Stacked bars over time."""

    title: str
    series: Sequence[str]
    bars: Sequence[Bar]
    top: int
    """The number at the top of the chart."""
    labels: Sequence[datetime]
    """Times that are written below it, at equal distances from left to right."""
    is_level: bool = False
    """Whether values are levels, such as a depth, and no counts: of these the last one is told, and not the sum. Their
    names may be anybody's, so their colours are those of their places."""

    @property
    def totals(self) -> Mapping[str, int]:
        """The sum of each series over all bars."""
        return {name: sum((bar.values or {}).get(name, 0) for bar in self.bars) for name in self.series}

    @property
    def told(self) -> Mapping[str, int]:
        """What its legend says of each series."""
        if not self.is_level:
            return self.totals
        known = [bar.values for bar in self.bars if bar.values is not None]
        return known[-1] if known else {}

    @property
    def classes(self) -> Mapping[str, str]:
        """The class of each series, which has its colour."""
        return {name: f"level-{number}" if self.is_level else f"of-{name}" for number, name in enumerate(self.series)}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see."""
        return not any(self.totals.values())


def stacked_bars(
    title: str,
    values: Mapping[datetime, Mapping[str, int]],
    *,
    series: Sequence[str],
    end: datetime,
    step: timedelta,
    count: int,
) -> Chart:
    """Return the chart of the `count` spans that end at `end`; spans without values stay empty.

    Example:
        noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        minute = timedelta(minutes=1)
        values = {noon: {"completed": 3}}
        chart = stacked_bars("Jobs", values, series=["completed"], end=noon + minute, step=minute, count=1)
        assert (chart.top, chart.bars[0].total) == (3, 3)
    """
    times = [end - (count - number) * step for number in range(count)]
    top = nice_top(max((sum(values[time].values()) for time in times if time in values), default=0))
    width = 100 / count
    bars = [
        _bar(time, values.get(time), series, x=number * width, width=width, top=top)
        for number, time in enumerate(times)
    ]
    between = ceil(count / MOST_LABELS)
    return Chart(title, series, bars, top, times[::between])


def nice_top(most: int) -> int:
    """Return a round number that is not below `most`, and at least 1.

    Example:
        assert [nice_top(number) for number in (0, 3, 11, 180, 2400)] == [1, 3, 15, 200, 2500]
    """
    if most <= 10:  # noqa: PLR2004  # each is round enough
        return max(most, 1)
    step = int(10 ** int(log10(most))) // 2
    return ceil(most / step) * step


def _bar(
    time: datetime, values: Mapping[str, int] | None, series: Sequence[str], *, x: float, width: float, top: int
) -> Bar:
    pieces: list[Piece] = []
    y = 100.0
    for name in series:
        height = 100 * (values or {}).get(name, 0) / top
        if height:
            y -= height
            pieces.append(Piece(name, x + width * GAP / 2, y, width * (1 - GAP), height))
    return Bar(time, values, tuple(pieces), x, width)
