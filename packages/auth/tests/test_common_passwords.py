"""A password that is long but easy to guess is refused."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_auth.common_passwords import COMMON, is_common

ADA = "ada.lovelace@analytical.example"


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "PasswordPassword1!",
        "p4$$w0rdp4$$w0rd",
        "p@ssw0rd12345678",
        "123456789012345",
        "543210987654321",
        "111222333111222333",
        "aaaaaaaaaaaaaaa",
        "               ",
        "!!!!!!!!!!!!!!!!",
        "abcabcabcabcabc",
        "abcdefghijklmnop",
        "qwertyuiopasdfgh",
        "monkey-dragon_shadow",
        "sunshine 2026 2026 2026",
        "correcthorse" * 2 + "horse",
        "lovelacelovelace",
        "AdaLovelace1815!",
        "analytical12345",
        "groundworkgroundwork",
        "example dragon 99",
    ],
)
def test_what_is_easy_to_guess_is_refused(password: str) -> None:
    assert is_common(password, (ADA, "groundwork", "correct horse"))


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery 42",
        "another horse battery 43",
        "monkey dragon shadow master",
        "837465019283746",
        "#%&()=?*+~<>|;:.",
        "Zm9vYmFyLXF1dXg",
        "ένα δύο τρία τέσσερα",
        "ada counts to seven",
        "",
    ],
)
def test_what_takes_a_guess_is_accepted(password: str) -> None:
    assert not is_common(password, (ADA, "groundwork"))


def test_the_three_thousand_most_common_are_known() -> None:
    assert {"password", "123456", "dragon"} <= COMMON


@given(password=st.text(max_size=256), address=st.text(max_size=254))
def test_any_text_can_be_judged(password: str, address: str) -> None:
    assert isinstance(is_common(password, (address,)), bool)


@given(
    word=st.sampled_from(sorted(word for word in COMMON if word.isalpha())),
    times=st.integers(2, 20),
    digits=st.text("0123456789", max_size=6),
)
def test_a_common_word_repeated_is_common(word: str, times: int, digits: str) -> None:
    assert is_common(word.title() * times + digits)


def test_only_the_words_of_the_library_are_kept() -> None:
    assert len(COMMON) == 3000
    assert {"password", "qwertyuiop"} <= COMMON
    assert "zxcvbn" not in sys.modules
