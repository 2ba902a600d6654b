"""Pages for everybody: each module has a `router`, and a `LINK` if the navigation shows it."""
