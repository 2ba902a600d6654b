"""The cron that counts, in the queue that each worker serves."""

from app_db.features.figures.payloads import CountMinutes
from app_db.jobs.retention import QUEUE
from app_worker.schedule import Cron

count_minutes = Cron(CountMinutes.kind, "* * * * *", CountMinutes, overlap=False, queue=QUEUE)
