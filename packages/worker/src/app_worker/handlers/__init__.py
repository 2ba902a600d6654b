"""One handler per payload class of the catalog."""

from app_worker.handlers.account import export_account
from app_worker.handlers.email import (
    send_one_time_link,
    send_registration_notice,
    send_security_notice,
    send_welcome_email,
)
from app_worker.handlers.erasure import erase_account
from app_worker.handlers.jobs import prune_jobs
from app_worker.handlers.links import make_one_time_link
from app_worker.handlers.sessions import prune_sessions
from app_worker.registry import Handler

HANDLERS: tuple[Handler, ...] = (
    send_welcome_email,
    send_security_notice,
    send_registration_notice,
    make_one_time_link,
    send_one_time_link,
    export_account,
    erase_account,
    prune_sessions,
    prune_jobs,
)
