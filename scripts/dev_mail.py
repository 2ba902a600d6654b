"""The mailbox of `make dev`: takes every mail over SMTP, keeps it as a file, and prints its subject and links.

python scripts/dev_mail.py PORT FOLDER
"""

import asyncio
import email
import re
import sys
from datetime import datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session
from dev_samples import changed_at, write_samples

LINK = re.compile(r"https?://[^\s<>\"')]+")


class Mailbox:
    """The handler to which aiosmtpd passes each mail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's
        """Keep the mail before it is acknowledged."""
        content = envelope.original_content or b""
        message = email.message_from_bytes(content, policy=default)
        subject = str(message["Subject"] or "no subject")
        slug = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:40]
        file = self.folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{slug}.eml"  # noqa: DTZ005  as the reader's clock
        file.write_bytes(content)
        print(f"To {', '.join(envelope.rcpt_tos)}: {subject}", flush=True)
        for link in links(message):
            print(f"  {link}", flush=True)
        print(f"  kept in {self.folder.parent.name}/{self.folder.name}/{file.name}", flush=True)
        return "250 kept"


def links(message: EmailMessage) -> list[str]:
    """The links of the text part, or of the HTML one if that is all there is; each once."""
    body = message.get_body(("plain", "html"))
    return list(dict.fromkeys(LINK.findall(body.get_content()))) if body else []


async def keep_samples(folder: Path) -> None:
    """Write the samples of the templates, and anew within two seconds when a template has changed."""
    written = -1.0
    while True:
        if (changed := changed_at()) != written:
            written = changed
            try:
                write_samples(folder)
            except Exception as error:  # somebody is writing a template
                print(f"a template of a mail fails: {error!r}", flush=True)
        await asyncio.sleep(2)


async def serve(port: int, folder: Path) -> None:
    """Take mail on 127.0.0.1 until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Mailbox(folder), enable_SMTPUTF8=True), "127.0.0.1", port)
    await asyncio.gather(server.serve_forever(), keep_samples(folder / "samples"))


if __name__ == "__main__":
    mails = Path(sys.argv[2])
    mails.mkdir(parents=True, exist_ok=True, mode=0o700)
    asyncio.run(serve(int(sys.argv[1]), mails))
