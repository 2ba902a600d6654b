"""Texts of a limited size."""

from app_runtime.texts import cut, safe_repr


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


def test_a_text_that_is_short_enough_stays() -> None:
    assert cut("12345678", 8) == "12345678"


def test_a_text_that_is_too_long_keeps_its_beginning_and_its_end() -> None:
    assert cut("a" * 100 + "b" * 100, 8) == "aaaa … 192 characters are missing … bbbb"


def test_what_cannot_be_shown_is_named() -> None:
    assert safe_repr(Unshowable()) == "<Unshowable, whose repr fails>"
    assert safe_repr("x" * 5000, 10) == "'xxxx … 4992 characters are missing … xxxx'"
