"""What an export holds of jobs."""
