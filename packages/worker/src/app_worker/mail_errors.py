"""Why a mail was not handed over: what a mail server said, as numbers (RFC 5321, 4.2; RFC 3463), and whom it concerns.

Its words are not kept: most of them repeat the address of the recipient.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Self

_STATUS = re.compile(r"^([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9])", re.MULTILINE)
_RELAY = re.compile(r"\brelay", re.IGNORECASE)

TEMPORARY, PERMANENT = 4, 5
MINIMUM, MAXIMUM = 200, 559

# Reply codes that speak of what we said or who we are: commands and parameters (500 to 504, 555), TLS and AUTH (523 to
# 538), a host that takes no mail at all (521, RFC 7504).
_OF_SERVER_OR_SENDER = frozenset({500, 501, 502, 503, 504, 521, 523, 525, 530, 534, 535, 538, 555})

# Enhanced codes, without their class, by subject (RFC 3463 and IANA's list). Of the address: the sender's. Of the
# system: all but a message that is too large. Of the protocol: all but "other", which Outlook says of mailboxes.
_SENDER_ADDRESS = frozenset({"1.7", "1.8"})
_MESSAGE_TOO_LARGE = "3.4"
_OTHER_PROTOCOL = "5.0"
# Of security: who may be written to, and mailboxes that have changed hands (RFC 7293), are the recipient's.
_RECIPIENT_SECURITY = frozenset({"7.2", "7.17", "7.18", "7.19"})
# Nobody's in particular: said to RCPT it is who we are ("relay access denied"), of a message what is in it.
_POLICY = frozenset({"7.0", "7.1", "7.7"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered: `550 5.1.1`."""

    code: int
    status: str | None = None
    """The enhanced status code, if it sends such and it is of the same class."""
    speaks_of_relaying: bool = False

    @classmethod
    def read(cls, code: int, text: str) -> Self:
        """Keep of an answer what names nobody."""
        found = _STATUS.search(text)
        is_status = found is not None and int(found[1]) == code // 100
        return cls(code, found[0] if found and is_status else None, bool(_RELAY.search(text)))

    def __str__(self) -> str:
        return f"{self.code} {self.status}" if self.status else str(self.code)

    def concerns_recipient(self, *, is_of_message: bool) -> bool:
        """Whether this permanent refusal is about the recipient or the message, not about the server or the sender."""
        if self.status is None:
            return self.code not in _OF_SERVER_OR_SENDER and not self.speaks_of_relaying
        subject, _, detail = self.status.partition(".")[2].partition(".")
        status = f"{int(subject)}.{int(detail)}"
        match int(subject):
            case 1:
                return status not in _SENDER_ADDRESS
            case 3:
                return status == _MESSAGE_TOO_LARGE
            case 5:
                return status == _OTHER_PROTOCOL and self.code not in _OF_SERVER_OR_SENDER
            case 7:
                return status in _RECIPIENT_SECURITY or (is_of_message and status in _POLICY)
            case _:
                return not self.speaks_of_relaying


class MailError(Exception):
    """A mail was not handed over, as far as we know. Neither an address nor the words of the server are in it."""

    outcome: ClassVar[str] = "failed"
    """What the metrics call it."""

    def __init__(self, step: str, reason: Reply | str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reply = reason if isinstance(reason, Reply) else None


class MailUndeliverable(MailError):
    """The recipient or the message was refused for good: nobody tries again."""

    outcome = "undeliverable"


class MailDeferred(MailError):
    """The server cannot take it right now (4yz): try again later."""

    outcome = "deferred"


class MailServerRefuses(MailError):
    """The server refuses us for good, whomever we write to: sign-in, sender, TLS, commands. Somebody has to mend it."""

    outcome = "server_refuses"


class MailServerLost(MailError):
    """The server could not be reached or fell silent, before it had the mail."""

    outcome = "unreachable"


class MailUnanswered(MailError):
    """The server has the mail, and did not say whether it takes it: it may arrive (RFC 1047)."""

    outcome = "unanswered"


def speaks_smtp(reply: Reply) -> bool:
    """Whether it is an answer that a mail server may give; aiosmtplib has -1 for what it cannot read."""
    return MINIMUM <= reply.code <= MAXIMUM


def refusal(step: str, reply: Reply, *, is_of_message: bool | None = None) -> MailError:
    """Return what an answer means that is not what the protocol goes on with.

    `is_of_message` is True for answers to the message, False for those to the recipient, None for all others.
    """
    if not speaks_smtp(reply):
        return MailServerLost(step, "what answers does not speak SMTP")
    if reply.code // 100 == TEMPORARY:
        return MailDeferred(step, reply)
    is_permanent = is_of_message is not None and reply.code // 100 == PERMANENT
    if is_permanent and reply.concerns_recipient(is_of_message=bool(is_of_message)):
        return MailUndeliverable(step, reply)
    return MailServerRefuses(step, reply)
