"""Keys for machines: those that have expired are deleted, and an export lists the rest."""
