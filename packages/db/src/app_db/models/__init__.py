"""Every table. Import models from here, so that the metadata is complete wherever one is used."""

from app_db.models.audit import AuditEvent
from app_db.models.exports import ExportPart
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
from app_db.models.schema import SchemaHistory
from app_db.models.users import OneTimeToken, Role, TokenPurpose, User, UserSession

__all__ = [
    "FINAL_STATES",
    "OPEN_STATES",
    "AuditEvent",
    "ExportPart",
    "Job",
    "JobCancellation",
    "JobCron",
    "JobError",
    "JobQueue",
    "JobState",
    "JobWorker",
    "OneTimeToken",
    "Role",
    "SchemaHistory",
    "TokenPurpose",
    "User",
    "UserSession",
]
