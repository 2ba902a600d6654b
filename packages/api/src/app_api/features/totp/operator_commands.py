"""`python -m app_api operator remove-second-factor`: for who has lost both the generator and the recovery codes."""

from app_api.operator import Answer, Context
from app_auth.features.totp import service


async def remove_second_factor(context: Context) -> Answer:
    """Turn one-time codes off, and sign the account out; its owner is told by mail."""
    email = context.arguments.email
    was_on = await service.remove_by_operator(context.session, email=email)
    text = "has no second factor any more, and is signed out" if was_on else "has no second factor"
    return Answer(f"{email} {text}", {"email": email, "removed": was_on})


COMMANDS = {
    "remove-second-factor": (remove_second_factor, "turn one-time codes of the account off, once you know who asks"),
}
