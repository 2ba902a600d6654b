"""The crons that delete expired rows, and add and drop the months of the audit."""

from app_db.features.retention.payloads import KeepAuditMonths, PruneAccounts, PruneJobs, PruneSessions
from app_db.jobs.retention import QUEUE
from app_worker.schedule import Cron

prune_sessions = Cron(PruneSessions.kind, "*/10 * * * *", PruneSessions, overlap=False, queue=QUEUE)
prune_jobs = Cron(PruneJobs.kind, "*/10 * * * *", PruneJobs, overlap=False, queue=QUEUE)
keep_audit_months = Cron(KeepAuditMonths.kind, "*/10 * * * *", KeepAuditMonths, overlap=False, queue=QUEUE)
prune_accounts = Cron(PruneAccounts.kind, "5,35 * * * *", PruneAccounts, overlap=False, queue=QUEUE)
