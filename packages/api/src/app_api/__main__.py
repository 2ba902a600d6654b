"""`python -m app_api`."""

from app_api.main import main

main()
