"""`python -m app_worker`."""

from app_worker.main import main

main()
