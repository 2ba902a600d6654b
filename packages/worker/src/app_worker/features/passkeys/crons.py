"""The cron that deletes used challenges."""

from app_db.features.passkeys.payloads import PrunePasskeyChallenges
from app_db.jobs.retention import QUEUE
from app_worker.schedule import Cron

prune = Cron(PrunePasskeyChallenges.kind, "*/10 * * * *", PrunePasskeyChallenges, overlap=False, queue=QUEUE)
