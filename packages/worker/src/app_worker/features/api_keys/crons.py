"""The cron that deletes keys that have expired."""

from app_db.features.api_keys.payloads import PruneKeys
from app_db.jobs.retention import QUEUE
from app_worker.schedule import Cron

prune_keys = Cron(PruneKeys.kind, "*/10 * * * *", PruneKeys, overlap=False, queue=QUEUE)
