"""The arithmetic of figures."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_db.features.figures.figures import BOUNDS, OUTCOMES, Ended, Figures
from app_db.types import utcnow

ENDED = st.builds(
    Ended,
    st.integers(0, 1000),
    st.dictionaries(st.integers(0, len(BOUNDS)), st.integers(1, 50), max_size=3).map(Counter),
)
SPANS = st.lists(
    st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from(OUTCOMES)), ENDED, max_size=4).map(
        lambda ended: Figures(utcnow(), ended, {"default": 3}, {"signed_in": 2})
    ),
    max_size=4,
)


@given(SPANS)
def test_figures_that_were_stored_are_read_again_as_they_were(spans: list[Figures]) -> None:
    for span in spans:
        assert Figures.parse(span.began_at, span.jobs(), dict(span.queues), dict(span.events)) == span


@given(SPANS)
def test_the_sum_of_spans_has_all_that_ended_in_them(spans: list[Figures]) -> None:
    total = Figures.sum(utcnow(), spans)

    for outcome, count in total.by_outcome():
        assert count == sum(dict(span.by_outcome())[outcome] for span in spans)
    assert total.events.get("signed_in", 0) == 2 * len(spans)
    assert total.queues.get("default", 0) == (3 if spans else 0)


@given(ENDED, st.floats(0.01, 1))
def test_a_quantile_lies_between_the_bounds_that_jobs_were_counted_in(ended: Ended, share: float) -> None:
    seconds, longest = ended.quantile(share), ended.quantile(1)

    if seconds is None or longest is None:
        assert not ended.run_times
    else:
        assert 0 <= seconds <= longest <= BOUNDS[-1]


@pytest.mark.parametrize(("number", "seconds"), [(0, 0.005), (6, 0.75), (len(BOUNDS), BOUNDS[-1])])
def test_the_median_of_jobs_between_two_bounds_is_in_their_middle(number: int, seconds: float) -> None:
    assert Ended(4, Counter({number: 4})).quantile(0.5) == pytest.approx(seconds)
