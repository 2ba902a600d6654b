"""E-mail addresses: which spellings are one account, and how mail servers get them (RFC 5321, 5891, 6531)."""

import unicodedata
from dataclasses import dataclass

import email_validator

from app_auth.errors import InvalidEmail

# Default_Ignorable_Code_Point (Unicode's DerivedCoreProperties.txt): invisible, so that two addresses look the same
# (RFC 8264, 9.13). The last two are symbols that are drawn as a blank.
_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
    (0x2800, 0x2800), (0x1D159, 0x1D159),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """An e-mail address in its forms."""

    written: str
    """As its owner wrote it, without the blanks around it."""
    local: str
    """The local part, in NFC."""
    domain: str
    """The domain as DNS knows it: A-labels (IDNA2008), so that domains of different owners stay different."""

    @property
    def canonical(self) -> str:
        """The form in which two spellings of one address are equal."""
        return f"{self.local.casefold()}@{self.domain}"

    @property
    def envelope(self) -> str:
        """The form for mail servers: only a local part beyond ASCII needs SMTPUTF8 (RFC 6531)."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only servers with SMTPUTF8 can carry mail to it."""
        return not self.local.isascii()


def parse_address(text: str) -> Address:
    """Parse an address as a person typed it; blanks around it are ignored.

    Raises:
        InvalidEmail: when it is no address at all, or longer than the 254 characters of RFC 5321.
    """
    written = text.strip(_BLANKS)
    try:
        parsed = email_validator.validate_email(written, check_deliverability=False, test_environment=True)
    except email_validator.EmailNotValidError:
        raise InvalidEmail from None
    return Address(written, parsed.local_part, parsed.ascii_domain)


def canonical_email(email: str) -> str:
    """Return the form in which all spellings of an address are equal. Accepts some that `new_address` refuses.

    >>> canonical_email(" Anna@Bücher.example ")
    'anna@xn--bcher-kva.example'

    Raises:
        InvalidEmail: as `parse_address` does.
    """
    return parse_address(email).canonical


def beginning_of(text: str) -> str:
    """Return the beginning of a canonical address that a person has typed, or all of one; the text may be anything.

    >>> beginning_of(" Anna@B"), beginning_of("Anna@Bücher.ex")
    ('anna@b', 'anna@xn--bcher-kva.ex')
    """
    try:
        return canonical_email(text)
    except InvalidEmail:
        return unicodedata.normalize("NFC", text.strip(_BLANKS)).casefold()


def new_address(text: str) -> Address:
    """Parse an address to register, or to mail a link to.

    Raises:
        InvalidEmail: also for an invisible character, which would make the address look like another one.
    """
    address = parse_address(text)
    if any(_is_ignorable(ord(character)) for character in address.written if not character.isascii()):
        raise InvalidEmail  # guard: test_an_address_with_a_character_that_nobody_sees_is_refused
    return address


def ascii_domain(domain: str) -> str:
    """Return a domain as DNS knows it (A-labels, IDNA2008).

    >>> ascii_domain("Bücher.example")
    'xn--bcher-kva.example'

    Raises:
        InvalidEmail: when it is not a valid domain.
    """
    return domain.lower() if domain.isascii() else parse_address(f"a@{domain}").domain


def readable(email: str) -> str:
    """Return an address with its domain in Unicode, as people read it; return any other text unchanged."""
    try:
        return email_validator.validate_email(email, check_deliverability=False, test_environment=True).normalized
    except email_validator.EmailNotValidError:
        return email


def _is_ignorable(code: int) -> bool:
    return any(first <= code <= last for first, last in _IGNORABLE)


# Line breaks are left out: in a mail, one would begin another header.
_BLANKS = "\t" + "".join(chr(code) for code in range(0x3001) if unicodedata.category(chr(code)) == "Zs")
