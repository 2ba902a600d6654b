"""The part of jobs in an export."""
