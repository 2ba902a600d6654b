"""`APP_WEBHOOKS__…`: where events may be sent, and for how long. API and worker read it."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from app_db.jobs.bounds import LONGEST_DELAY
from app_runtime.durations import Duration


class WebhookSettings(BaseModel, frozen=True):
    """Events go to public addresses only, over TLS."""

    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that may be reached although they are not public, as in `["10.1.0.0/16"]`."""
    authorities: Path | None = None
    """Certificates of authorities that are trusted besides those of the machine: a PEM file."""
    at_once: Annotated[int, Field(ge=1, le=100)] = 5
    """Deliveries that one worker process sends at once; of one account half as many."""
    disable_after: Annotated[Duration, Field(ge=timedelta(hours=1), le=LONGEST_DELAY)] = timedelta(days=5)
    """An endpoint is disabled when a delivery is given up and none has succeeded for so long."""
    keep: Annotated[Duration, Field(ge=timedelta(days=3), le=LONGEST_DELAY)] = timedelta(days=30)
    """Deliveries stay in the log for so long."""
