"""Settings: the table, what people configure, and the frozen snapshot that everything reads.

``Configuration`` is what ``app.conf`` is; ``Settings`` what it yields. Nothing here opens a URL or
imports a configuration module.
"""

from celeriac.settings.configuration import Configuration
from celeriac.settings.masking import masked_url
from celeriac.settings.table import Settings

__all__ = ["Configuration", "Settings", "masked_url"]
