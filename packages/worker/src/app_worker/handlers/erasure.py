"""What is left of an account once it is deleted."""

from datetime import timedelta

from app_db.jobs.catalog import AccountErasure
from app_db.jobs.erasure import erase_traces, may_leave_traces
from app_worker.context import JobContext, Snooze
from app_worker.registry import Mode, handles

SOON, LATER = timedelta(seconds=15), timedelta(hours=1)


@handles(AccountErasure, mode=Mode.LEASE, timeout=timedelta(minutes=5))
async def erase_account(job: JobContext, payload: AccountErasure) -> None:
    """Take away the errors and results of a deleted account's jobs, in batches; again until the last of them has ended.

    Results hold what an export has collected, and errors what a handler of yours has put into its exception.
    """
    # First, so that what a job leaves that ends meanwhile is taken away as well.
    async with job.transaction() as session:
        running = await may_leave_traces(session, payload.user_id)
    erased = 1
    while erased:
        async with job.transaction() as session:
            erased = await erase_traces(session, payload.user_id)
    if running is not None:
        raise Snooze(SOON if running else LATER)  # guard: test_what_a_job_leaves_after_the_deletion_goes_too
