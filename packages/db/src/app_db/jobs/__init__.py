"""How a job is accepted: payload classes, their catalog, `enqueue`, and the notification after the commit."""
