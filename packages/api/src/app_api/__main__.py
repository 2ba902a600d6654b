"""`python -m app_api`."""

from app_api import first_signal  # noqa: F401  # before what takes long to import
from app_api.main import main

main()
