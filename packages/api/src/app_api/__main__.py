"""`python -m app_api`."""

import sys

try:
    from app_api import first_signal  # noqa: F401  # before what takes long to import
    from app_runtime.discovery import FeatureError

    try:
        from app_api.main import main

        main()
    except FeatureError as error:
        sys.exit(f"error: {error}")
except KeyboardInterrupt:  # while it was imported, too
    sys.stderr.write("error: stopped by Ctrl-C\n")
    sys.exit(130)
