"""The site: ``sphinx-build -W --keep-going docs site`` in the root of a clone.

Nothing is loaded from elsewhere, neither by the build nor by a page that is read.
"""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "fusiform"
author = "The fusiform developers"
copyright = author
release = version_of("fusiform")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "api_pages",  # how the API's pages read
    "gallery_folder",  # where its scripts run, and in which order
    "command_reference",  # the commands' reference, from their help
    "repository_pages",  # pages of files outside docs/
    "link_check",  # checks of the pages that were built
]
exclude_patterns = ["_build", "_extensions", "_templates"]
templates_path = ["_templates"]
smartquotes = False  # help and docstrings are typed: 'faces > places', --format

# Anchors are those that GitHub makes of headings; a link to one that is missing is a warning.
myst_heading_anchors = 4

# The API: a page for every name that reference/api.md lists.
autosummary_generate = True
autodoc_typehints = "none"  # docstrings say them
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
suppress_warnings = ["autosummary.import_cycle"]  # results of the engine have their full names

sphinx_gallery_conf = {
    "examples_dirs": "_build/examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py",  # every script is run
    "within_subsection_order": "gallery_folder.course",
    "abort_on_example_error": True,
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib", "gallery_folder.reset"),
    "reset_modules_order": "both",
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": "matplotlib",
    "doc_module": ("fusiform",),
    "reference_url": {"fusiform": None},  # names in scripts link to the API
    "backreferences_dir": "gallery/uses",
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "fusiform"
html_static_path = ["_static"]
html_css_files = ["fusiform.css"]
html_search_scorer = str(HERE / "search.js")
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {page: [] for page in ("index", "tutorial", "changelog", "contributing")}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "show_nav_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_bar_text": "Search",
}
