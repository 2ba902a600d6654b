"""Pages for the machine of a developer: they exist where `make dev` runs, and nowhere else."""
