"""The broker on a Redis server, with Celery's keys and envelopes."""
