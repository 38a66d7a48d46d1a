"""Result stores: they remember outcomes and wake those who wait. The contract is in ``base``."""
