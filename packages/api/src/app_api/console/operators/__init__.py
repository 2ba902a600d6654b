"""Pages for operators: all that is in this folder is a 404 for everybody else."""
