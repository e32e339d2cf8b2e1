"""How Sphinx builds the documentation: `make docs`."""

from importlib.metadata import version as installed_version

project = "scalenet_gp"
author = "The scalenet_gp developers"
project_copyright = author
version = release = installed_version("scalenet_gp")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what overrides has the documentation of what it overrides, which is listed there
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "scalenet_gp"
html_copy_source = False
html_show_sphinx = False
