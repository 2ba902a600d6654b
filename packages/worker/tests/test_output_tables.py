"""The tables that commands print for people."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app_worker.command_line.output import JobList, cell, sheet, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    text = table(["NAME", "QUEUE"], [["a", "x"], ["longer name", "y"]])

    assert text == "NAME         QUEUE\na            x\nlonger name  y\n"


def test_numbers_are_aligned_right() -> None:
    assert table(["N", "NAME"], [[5, "a"], [1000, "b"], [None, "c"]]) == "   N  NAME\n   5  a\n1000  b\n   -  c\n"


def test_a_table_without_rows_says_so() -> None:
    assert table(["NAME"], []) == "none\n"


def test_a_sheet_has_a_line_for_each_entry() -> None:
    assert sheet([("id", 1), ("longer", "x")]) == "id      1\nlonger  x\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (datetime(2026, 11, 23, 9, 0, 0, 999, tzinfo=timezone(timedelta(hours=1))), "2026-11-23 08:00:00"),
        (datetime(2026, 11, 23, tzinfo=UTC), "2026-11-23 00:00:00"),
        ({"a": [1, "ü"]}, '{"a": [1, "ü"]}'),
        (["mail", None], "mail, -"),
        (3, "3"),
        (0.25, "0.2"),
        ("\x1b[2J and\nmore", "\\x1b[2J and\\nmore"),
        (True, "yes"),
        (False, "no"),
    ],
)
def test_a_value_is_shown_as_people_read_it(value: Any, text: str) -> None:
    assert cell(value) == text


def test_a_page_that_ended_early_says_how_far_it_looked() -> None:
    page = JobList(items=[], next="AZ", partial=True)

    assert page.text() == "none\nfound among the 5,000 jobs that were searched; more: --after AZ\n"
