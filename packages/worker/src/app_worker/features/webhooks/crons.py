"""The cron that keeps the log of deliveries small, and the secrets sealed by the active key."""

from app_db.features.webhooks.payloads import KeepWebhooks
from app_db.jobs.retention import QUEUE
from app_worker.schedule import Cron

keep_webhooks = Cron(KeepWebhooks.kind, "*/10 * * * *", KeepWebhooks, overlap=False, queue=QUEUE)
