"""The folders that the suite uses."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The root of the repository; every process of a measurement starts here."""

CELERY_ENVIRONMENT = ROOT / ".bench-env"
"""Celery's own virtual environment; made on first use, not under version control."""

REPORTS = ROOT / "benchmarks" / "reports"
"""Where `--report` writes."""
