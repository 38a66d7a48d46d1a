"""The worker's parent process: it claims, dispatches, commits and keeps leases; it runs no task."""
