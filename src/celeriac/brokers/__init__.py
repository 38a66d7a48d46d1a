"""Brokers: they hold messages and hand them out under leases. The contract is in ``base``."""
