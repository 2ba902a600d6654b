"""The command line, apart from `run`: its arguments, its commands, and their output."""
