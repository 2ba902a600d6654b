"""Domains of addresses as A-labels.

Canonical addresses had the domain in its own script, case-folded: straße.de and strasse.de were one. Now they have it
as DNS does (IDNA2008). All other addresses stay as they are, and are not locked. Links that were mailed to a domain of
another script before are not valid any more: their owner asks for a new one. A process of the previous release does not
find such an account until the process is replaced.

Revision ID: 3c9a5e7d1f42
Revises: d2f84a6c1b07
Create Date: 2026-11-29 05:20:00+00:00
"""

import unicodedata
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision: str = "3c9a5e7d1f42"
down_revision: str | None = "d2f84a6c1b07"
branch_labels: None = None
depends_on: None = None

# By id, the order in which transactions lock several users. Text with more bytes than characters is not ASCII. `email`
# counts too, because straße, in any spelling, had become strasse.
BEYOND_ASCII = sa.text(
    "SELECT id, email, email_canonical FROM users "
    "WHERE octet_length(email) <> char_length(email) OR octet_length(email_canonical) <> char_length(email_canonical) "
    "OR email ILIKE '%xn--%' ORDER BY id"
)
WITH_A_LABELS = sa.text("SELECT id, email, email_canonical FROM users WHERE email_canonical LIKE '%xn--%' ORDER BY id")
CHANGE = sa.text(
    "UPDATE users SET email_canonical = :new WHERE id = :id AND email_canonical = :old "
    "AND NOT EXISTS (SELECT FROM users AS other WHERE other.email_canonical = :new)"
)


def upgrade() -> None:
    """Write the domains as DNS does."""
    _change(BEYOND_ASCII, _with_a_labels)


def downgrade() -> None:
    """Write the domains in their own script again."""
    _change(WITH_A_LABELS, _folded)


def _change(which: sa.TextClause, new_form: Callable[[str, str], str | None]) -> None:
    if op.get_context().as_sql:
        return  # the new form cannot be computed in SQL, and there are no rows to read
    connection = op.get_bind()
    for user_id, email, old in connection.execute(which).all():
        new = new_form(email, old)
        if new is not None and new != old:
            connection.execute(CHANGE, {"id": user_id, "old": old, "new": new})


def _with_a_labels(email: str, old: str) -> str | None:
    """Return the form with A-labels; None if the domain of `email` does not lead to the old form."""
    local, _, folded = old.rpartition("@")
    domain = _mapped(email.rpartition("@")[2])
    if domain.casefold() != folded:
        return None
    return f"{local}@{'.'.join(map(_a_label, domain.split('.')))}"


def _folded(email: str, old: str) -> str:
    local, _, domain = old.rpartition("@")
    return f"{local}@{'.'.join(map(_u_label, domain.split('.'))).casefold()}"


def _mapped(domain: str) -> str:
    """Return what IDNA2008 maps this text to (RFC 5895), because the standard library has only IDNA2003."""
    # Letter by letter: lower() of a whole word ends in another sigma. U+3002 is a full stop, U+FE00 to U+FE0F vanish.
    lower = "".join(letter.lower() for letter in domain.replace("\u3002", ".") if not "\ufe00" <= letter <= "\ufe0f")
    mapped = unicodedata.normalize("NFKC", lower)
    return ".".join(map(_u_label, mapped.split(".")))


def _a_label(label: str) -> str:
    return label if label.isascii() else f"xn--{label.encode('punycode').decode()}"


def _u_label(label: str) -> str:
    try:
        return label[4:].encode().decode("punycode") if label.startswith("xn--") else label
    except ValueError:  # it only looks like an A-label
        return label
