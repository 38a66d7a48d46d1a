"""How the documentation is built: Markdown by way of MyST, every broken link an error."""

from importlib.metadata import version as installed_version

project = "Celeriac"
author = "Celeriac contributors"
copyright = "2026, Celeriac contributors"
release = version = installed_version("celeriac")

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
# Links such as `delivery-guarantees.md#leases` name a heading, and are checked like any other.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"Celeriac {release}"
html_show_sourcelink = False
html_copy_source = False
