"""The geometry of charts, and how pages write numbers."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_api.console import formats
from app_api.console.charts import nice_top, stacked_bars
from app_db.types import utcnow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SERIES = ["completed", "failed"]


@given(st.lists(st.none() | st.tuples(st.integers(0, 9999), st.integers(0, 9999)), min_size=1, max_size=60))
def test_all_pieces_lie_within_the_chart_and_stand_on_each_other(numbers: list[tuple[int, int] | None]) -> None:
    times = [NOON + number * MINUTE for number in range(len(numbers))]
    values = {time: dict(zip(SERIES, pair, strict=True)) for time, pair in zip(times, numbers, strict=True) if pair}

    chart = stacked_bars("Jobs", values, series=SERIES, end=times[-1] + MINUTE, step=MINUTE, count=len(times))

    assert chart.totals == {name: sum(value[name] for value in values.values()) for name in SERIES}
    assert chart.is_empty == (not any(chart.totals.values()))
    for bar, pair in zip(chart.bars, numbers, strict=True):
        assert (bar.values is None, bar.total) == (pair is None, sum(pair or ()))
        floor = 100.0
        for piece in bar.pieces:
            assert bar.x <= piece.x < piece.x + piece.width <= bar.x + bar.width <= 100 + 1e-9
            assert piece.y + piece.height == pytest.approx(floor)
            assert piece.y >= -1e-9
            floor = piece.y
    assert len(chart.labels) <= 6


@given(st.integers(0, 10**9))
def test_the_top_is_above_all_and_not_far_above(most: int) -> None:
    assert most <= nice_top(most) <= max(1, 1.5 * most)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "—"), (0.0042, "4 ms"), (7.25, "7.2 s"), (42.4, "42 s"), (95, "1 min"), (7300, "2 h"), (90_000, "1 d")],
)
def test_lengths_of_time_have_a_unit(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


def test_times_are_told_from_now_on() -> None:
    assert formats.ago(utcnow() - timedelta(seconds=5.1)) == "5 s ago"
    assert formats.ago(utcnow() - timedelta(minutes=3)) == "3 min ago"
    assert formats.ago(utcnow() + timedelta(hours=2.5)) == "in 2 h"


@pytest.mark.parametrize(
    ("progress", "per_cent"),
    [
        ({"done": 3, "of": 4}, 75), ({"done": 9, "of": 4}, 100), ({"done": 1, "of": 0}, None),
        ({"done": "<b>", "of": 4}, None), ("half", None), (None, None), ({"done": True, "of": True}, 100),
    ],
)  # fmt: skip
def test_only_a_progress_of_a_known_shape_is_a_bar(progress: object, per_cent: int | None) -> None:
    assert formats.share(progress) == per_cent


def test_json_is_written_for_people_and_cut_if_it_is_very_long() -> None:
    assert formats.pretty({"name": "Ä"}) == '{\n  "name": "Ä"\n}'
    assert formats.pretty("x" * 200_000).endswith("…")
