"""Sphinx: `make docs` builds the pages, and fails at any warning."""

import sys
from pathlib import Path

TOP = Path(__file__).parent.parent
sys.path[:0] = [str(TOP), str(TOP / "protocol")]

from cephcaps.version import VERSION  # noqa: E402

project = "cephcaps"
release = version = VERSION
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
html_theme = "furo"
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
exclude_patterns = ["_build"]
