"""Which spellings of an address are one account, and which characters no address has."""

import sys
import unicodedata

import pytest

from app_auth import links
from app_auth.addresses import ascii_domain, canonical_email, new_address, parse_address, readable
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import EmailTaken, InvalidEmail, PasswordTooCommon
from app_auth.testing import Account, MakeAccount, SignIn
from app_db import Session
from app_db.models import User

# Default_Ignorable_Code_Point=True in DerivedCoreProperties.txt of Unicode 16, but for those that are in no address
# anyway because they are controls, formats or not assigned.
UNSEEN = [
    "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u180b", "\u180d", "\u180f", "\u3164", "\ufe00", "\ufe0f",
    "\uffa0", "\U000e0100", "\U000e01ef", "\u2800",
]  # fmt: skip


@pytest.mark.parametrize("unseen", [*UNSEEN, "\u200b", "\u00ad", "\u2060", "\ufeff"], ids=ascii)
@pytest.mark.parametrize("address", ["ad{}a@example.test", "ada{}@example.test", "ada@exam{}ple.test"])
def test_an_address_with_a_character_that_nobody_sees_is_refused(address: str, unseen: str) -> None:
    """RFC 8264, 9.13: no identifier holds a character that is ignorable by default."""
    with pytest.raises(InvalidEmail):
        new_address(address.format(unseen))


def test_every_character_that_is_ignorable_is_refused() -> None:
    """No format, no variation selector and no filler of Hangul (RFC 8264, 9.13)."""
    accepted = []
    for code in range(0x80, sys.maxunicode + 1):
        name = unicodedata.name(chr(code), "")
        if (
            unicodedata.category(chr(code)) == "Cf"
            or "VARIATION SELECTOR" in name
            or (name.startswith("HANGUL") and name.endswith("FILLER"))
        ):
            try:
                accepted.append(new_address(f"a{chr(code)}a@example.test"))
            except InvalidEmail:
                continue

    assert accepted == []


async def test_who_has_such_an_address_from_before_signs_in_and_changes_nothing(
    make_account: MakeAccount, sign_in: SignIn, session: Session
) -> None:
    account = await make_account(email="i-love-you@example.test")
    user = await session.get_one(User, account.id)
    user.email, user.email_canonical = ("i-❤️-you@example.test",) * 2
    await session.commit()

    await sign_in(Account(account.id, user.email, account.password, account.role))


@pytest.mark.parametrize("ask", [links.forgot_password, links.request_verification])
async def test_no_link_is_asked_for_with_such_an_address(ask: object, auth: Auth, session: Session) -> None:
    assert callable(ask)
    with pytest.raises(InvalidEmail):
        await ask(auth, session, email="ad\u3164a@example.test", client=NOBODY)


# Pairs that IDNA2003, a case folding or a compatibility form makes one, and that two owners may have (RFC 5894, 7.2).
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("straße.example", "strasse.example"),
        ("STRAẞE.example", "STRASSE.example"),
        ("βόλος.example", "βόλοσ.example"),
        ("bücher.example", "bucher.example"),
        ("\u0131.example", "i.example"),
    ],
)
def test_two_domains_that_may_have_two_owners_are_two_addresses(one: str, other: str) -> None:
    assert canonical_email(f"ada@{one}") != canonical_email(f"ada@{other}")


@pytest.mark.parametrize(
    "spelling",
    ["bücher.example", "BÜCHER.example", "bu\u0308cher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.Example"],
)
def test_a_domain_in_any_spelling_is_kept_as_dns_knows_it(spelling: str) -> None:
    """RFC 5890, 2.3.2.1: A-labels and U-labels of one domain are equivalent."""
    assert canonical_email(f"Ada@{spelling}") == "ada@xn--bcher-kva.example"
    assert ascii_domain(spelling) == "xn--bcher-kva.example"


async def test_the_owner_of_one_of_them_does_not_keep_the_other_out(make_account: MakeAccount) -> None:
    await make_account(email="ada@straße.example")
    await make_account(email="ada@strasse.example")

    with pytest.raises(EmailTaken):
        await make_account(email="ADA@xn--strae-oqa.example")


@pytest.mark.parametrize("blank", [" ", "   ", "\t", "\u00a0", "\u2003", "\u3000", " \t\u00a0"], ids=ascii)
async def test_a_blank_before_or_behind_an_address_is_no_part_of_it(
    blank: str, make_account: MakeAccount, sign_in: SignIn, session: Session
) -> None:
    """Keyboards of telephones add a blank after a word that they complete."""
    account = await make_account(email=f"{blank}Ada@example.test{blank}")

    user = await session.get_one(User, account.id)
    assert (user.email, user.email_canonical) == ("Ada@example.test", "ada@example.test")
    await sign_in(account)
    await sign_in(Account(account.id, "ada@example.test", account.password, account.role))


@pytest.mark.parametrize(
    "text", ["ada@example.test\n", "\r\nada@example.test", "ad a@example.test", "ada@ example.test"]
)
def test_a_line_break_or_a_blank_within_is_no_address(text: str) -> None:
    with pytest.raises(InvalidEmail):
        parse_address(text)


def test_a_mail_server_is_told_the_domain_as_dns_knows_it() -> None:
    """RFC 5891, 4.4 and RFC 6531, 3.2: only a local part beyond ASCII needs SMTPUTF8."""
    anna, joerg = parse_address("Anna@bücher.example"), parse_address("Jörg@bücher.example")

    assert (anna.envelope, anna.needs_smtputf8) == ("Anna@xn--bcher-kva.example", False)
    assert (joerg.envelope, joerg.needs_smtputf8) == ("Jörg@xn--bcher-kva.example", True)


def test_a_domain_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidEmail):
        ascii_domain("☃.example")


@pytest.mark.parametrize(
    ("email", "read"),
    [("ada@xn--bcher-kva.example", "ada@bücher.example"), ("ada@example.test", "ada@example.test"), ("-", "-")],
)
def test_people_read_a_domain_in_their_script(email: str, read: str) -> None:
    assert readable(email) == read


@pytest.mark.parametrize("email", ["ada@käsekuchen.example", "ada@xn--ksekuchen-v2a.example"])
def test_the_name_of_the_own_domain_is_no_password_in_either_form(auth: Auth, email: str) -> None:
    """NIST SP 800-63B-4, 3.1.1.2: words of the context."""
    with pytest.raises(PasswordTooCommon):
        auth.passwords.check_strength("käsekuchen käsekuchen", email=email)
    with pytest.raises(PasswordTooCommon):
        auth.passwords.check_strength("käsekuchen 11111111", email=canonical_email(email))
