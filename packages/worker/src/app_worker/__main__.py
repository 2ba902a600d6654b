"""`python -m app_worker`."""

from app_worker import first_signal  # noqa: F401  # before what takes long to import
from app_worker.main import main

main()
