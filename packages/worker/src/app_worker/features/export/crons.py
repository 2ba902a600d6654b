"""The cron that deletes expired exports."""

from app_db.features.export.payloads import PruneExports
from app_db.jobs.retention import QUEUE
from app_worker.schedule import Cron

prune_exports = Cron(PruneExports.kind, "*/10 * * * *", PruneExports, overlap=False, queue=QUEUE)
