"""All models: those of the kernel by name, and those of features as they are found (`features/<name>/models.py`)."""

from app_db.models.audit import AuditEvent
from app_db.models.idempotency import IdempotentRequest
from app_db.models.job_batches import JobBatch, JobBatchChange, JobLink
from app_db.models.job_limits import JobLimit, JobLimitKey, JobLimitSignal
from app_db.models.jobs import (
    FINAL_STATES,
    OPEN_STATES,
    Job,
    JobCancellation,
    JobCron,
    JobError,
    JobQueue,
    JobState,
    JobWorker,
)
from app_db.models.schedules import JobSchedule
from app_db.models.schema import SchemaHistory
from app_db.models.users import OneTimeToken, Role, TokenPurpose, User, UserSession
from app_runtime.discovery import find

__all__ = [
    "FINAL_STATES",
    "OPEN_STATES",
    "AuditEvent",
    "IdempotentRequest",
    "Job",
    "JobBatch",
    "JobBatchChange",
    "JobCancellation",
    "JobCron",
    "JobError",
    "JobLimit",
    "JobLimitKey",
    "JobLimitSignal",
    "JobLink",
    "JobQueue",
    "JobSchedule",
    "JobState",
    "JobWorker",
    "OneTimeToken",
    "Role",
    "SchemaHistory",
    "TokenPurpose",
    "User",
    "UserSession",
]

# At the end, because models of features refer to those above. Any import of a model completes the metadata.
FEATURE_MODELS = tuple(find("app_db.features", "models"))
