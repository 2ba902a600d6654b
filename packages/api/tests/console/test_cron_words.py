"""Cron expressions as sentences."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app_api.console.cron_words import in_words


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("* * * * *", "every minute"),
        ("*/1 * * * *", "every minute"),
        ("*/10 * * * *", "every 10 minutes"),
        ("*/7 * * * *", "at minute */7 of each hour"),
        ("*/0 * * * *", "at minute */0 of each hour"),
        ("0 * * * *", "every hour"),
        ("5,35 * * * *", "at minute 5,35 of each hour"),
        ("0 */6 * * *", "every 6 hours"),
        ("30 2 * * *", "every day at 02:30"),
        ("0 14,2 * * *", "every day at 02:00 and 14:00"),
        ("0,30 8,9 * * *", "every day at 08:00, 08:30, 09:00 and 09:30"),
        ("0 9-17 * * *", "every day at minute 0 of hour 9-17"),
        ("* 3 * * *", "every minute of hour 3"),
        ("30 2 * * 1-5", "at 02:30, Monday to Friday"),
        ("30 2 * * MON,WED,7", "at 02:30, on Monday, Wednesday and Sunday"),
        ("30 2 * * sun", "at 02:30, on Sunday"),
        ("0 0 1 1 *", "at 00:00, on day 1, in January"),
        ("0 0 1-7,15 jan,7-9 *", "at 00:00, on day 1 to 7 and 15, in January and July to September"),
        ("0 0 13 * 5", "at 00:00, on day 13 or on Friday"),
        ("0 0 */2 * 5", "at 00:00, on day */2 and on Friday"),
        ("0 0 L * *", "at 00:00, on the last day"),
        ("0 0 * * 5#2", "at 00:00, on 5#2"),
        ("*/15 * * * 1-5", "every 15 minutes, Monday to Friday"),
        ("* * * * * *", "every second"),
        ("*/20 * * * * *", "every 20 seconds"),
        ("*/7 * * * * *", "every minute, at second */7"),
        ("30 0 3 * * *", "every day at 03:00, at second 30"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_an_expression_is_told_as_people_say_it(expression: str, sentence: str) -> None:
    assert in_words(expression) == sentence


fields = st.sampled_from(("*", "*/5", "0", "1-5", "99", "²", "٣", "-", ",", "L", "jan", "#", "/")) | st.text(max_size=4)


@given(st.lists(fields, max_size=7).map(" ".join))
@example("³ ³ ³ ³ ³")
def test_any_text_is_told_somehow(expression: str) -> None:
    assert in_words(expression) or not expression
