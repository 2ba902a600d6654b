"""One folder per feature: router.py translates, schemas.py describes, a service decides."""
