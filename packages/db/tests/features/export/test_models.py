"""The table of exports."""

import subprocess
import sys


def test_the_metadata_is_complete_wherever_the_model_of_one_feature_is_used() -> None:
    """In a new process, because this one has imported everything."""
    look = "from app_db.features.export.models import ExportPart as Part; print(*Part.metadata.tables)"

    tables = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split()

    assert {"users", "jobs", "export_parts"} <= {*tables}
