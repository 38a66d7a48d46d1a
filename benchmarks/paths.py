"""The folders that the suite uses."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The root of the repository; every process of a measurement starts here."""

ENVIRONMENTS = ROOT / ".bench-env"
"""Virtual environments of the peers; made on first use, not under version control."""

REPORTS = ROOT / "docs" / "benchmarks"
"""Where ``--report`` writes."""
