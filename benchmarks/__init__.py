"""Measures Celeriac beside Celery: `python -m benchmarks` from the root of the repository.

Not part of the installed package, and no test: it reports what it saw and decides nothing.
The modules `marks`, `client` and `apps` also run inside Celery's environment and inside the
workers that are measured, so they use little, and the standard library only.
"""
