"""Errors of mail: the reply codes of a mail server (RFC 5321, 4.2; RFC 3463), and whether they concern the recipient.

The text of a reply is not kept, because it usually repeats the address of the recipient.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Self

_STATUS = re.compile(r"^([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9])", re.MULTILINE)
_RELAY = re.compile(r"\brelay", re.IGNORECASE)

TEMPORARY, PERMANENT = 4, 5
MINIMUM, MAXIMUM = 200, 559

# Reply codes about the client or the server: commands and parameters (500 to 504, 555), TLS and AUTH (523 to 538), a
# host that accepts no mail at all (521, RFC 7504).
_OF_SERVER_OR_SENDER = frozenset({500, 501, 502, 503, 504, 521, 523, 525, 530, 534, 535, 538, 555})

# Enhanced codes without their class, by subject (RFC 3463 and IANA's list). Address: these concern the sender. System:
# all but "message too large" concern the server. Protocol: all but "other", which Outlook uses for mailboxes.
_SENDER_ADDRESS = frozenset({"1.7", "1.8"})
_MESSAGE_TOO_LARGE = "3.4"
_OTHER_PROTOCOL = "5.0"
# Security: these concern the recipient, such as mailboxes that have changed hands (RFC 7293).
_RECIPIENT_SECURITY = frozenset({"7.2", "7.17", "7.18", "7.19"})
# Policy: a reply to RCPT concerns the client ("relay access denied"), a reply to the message concerns its content.
_POLICY = frozenset({"7.0", "7.1", "7.7"})


@dataclass(frozen=True, slots=True)
class Reply:
    """The codes of a server's reply: `550 5.1.1`."""

    code: int
    status: str | None = None
    """The enhanced status code, if the reply has one of the same class."""
    speaks_of_relaying: bool = False

    @classmethod
    def read(cls, code: int, text: str) -> Self:
        """Read only the codes of a reply, because its text may name a person."""
        found = _STATUS.search(text)
        is_status = found is not None and int(found[1]) == code // 100
        return cls(code, found[0] if found and is_status else None, bool(_RELAY.search(text)))

    def __str__(self) -> str:
        return f"{self.code} {self.status}" if self.status else str(self.code)

    def concerns_recipient(self, *, is_of_message: bool) -> bool:
        """Return whether this permanent refusal concerns the recipient or the message, not the server or the sender."""
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
    """A mail was not handed over, or may not have been. The error holds no address and no text of the server."""

    outcome: ClassVar[str] = "failed"
    """Its name in the metrics."""

    def __init__(self, step: str, reason: Reply | str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reply = reason if isinstance(reason, Reply) else None


class MailUndeliverable(MailError):
    """The server refused the recipient or the message for good: the job is discarded."""

    outcome = "undeliverable"


class MailDeferred(MailError):
    """The server cannot accept the mail now (4yz): try again later."""

    outcome = "deferred"


class MailServerRefuses(MailError):
    """The server refuses every mail of ours: sign-in, sender, TLS or commands. An operator has to mend it."""

    outcome = "server_refuses"


class MailServerLost(MailError):
    """The server could not be reached, or fell silent before it had the mail."""

    outcome = "unreachable"


class MailUnanswered(MailError):
    """The server has the mail and did not reply: it may arrive (RFC 1047)."""

    outcome = "unanswered"


def speaks_smtp(reply: Reply) -> bool:
    """Return whether a mail server may send such a reply; aiosmtplib uses -1 for lines that it cannot read."""
    return MINIMUM <= reply.code <= MAXIMUM


def refusal(step: str, reply: Reply, *, is_of_message: bool | None = None) -> MailError:
    """Return the error for a reply that ends the conversation.

    `is_of_message` is True for a reply to the message, False for one to the recipient, None for all others.
    """
    if not speaks_smtp(reply):
        return MailServerLost(step, "what answers does not speak SMTP")
    if reply.code // 100 == TEMPORARY:
        return MailDeferred(step, reply)
    is_permanent = is_of_message is not None and reply.code // 100 == PERMANENT
    if is_permanent and reply.concerns_recipient(is_of_message=bool(is_of_message)):
        return MailUndeliverable(step, reply)
    return MailServerRefuses(step, reply)
