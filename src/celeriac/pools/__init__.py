"""Pools: where tasks run. The contract is in ``base``."""
