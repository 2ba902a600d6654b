"""How the database is seen from outside: figures of its pools, spans of statements and jobs."""
