"""What jobs and crons of features do: one folder each, found by `app_runtime.discovery`."""
