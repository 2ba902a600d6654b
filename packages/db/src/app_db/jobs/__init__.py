"""How a job is accepted: payload classes, their catalog, `enqueue`, and the wake-up after the commit."""
