"""What recognises keys, once per process."""

from collections.abc import AsyncIterator

from app_auth.features.api_keys.recognition import StampedKeys
from app_auth.machines import MachineKeys


async def machine_keys() -> AsyncIterator[MachineKeys]:
    """Let keys be recognised, and wait at the end for what notes their use."""
    keys = StampedKeys()
    try:
        yield keys
    finally:
        await keys.close()
