"""`python -m app_worker`."""

import os
import sys

try:
    from app_runtime.first_process import end_by_sigterm

    end_by_sigterm(process=os.getpid())  # before the imports that take long
    from app_runtime.discovery import FeatureError
    from app_runtime.garbage import frozen_imports

    try:
        with frozen_imports():  # guard: test_the_imports_of_a_worker_are_frozen
            from app_worker.main import main

        main()
    except FeatureError as error:
        sys.exit(f"error: {error}")
except KeyboardInterrupt:  # also during the imports
    sys.stderr.write("error: stopped by Ctrl-C\n")
    sys.exit(130)
