"""Configuration of the documentation site: `make docs` builds it."""

import inspect
import os

import skxmc

project = "skxmc"
author = "The skxmc developers"
copyright = author  # Sphinx reads it under this name
version = release = skxmc.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "obj"  # single backticks link where there is something to link to
pygments_style = "default"

# --- links to other projects need the network, so they are made on request only

if os.environ.get("SKXMC_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

# --- API reference

autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"  # numpydoc's type line says more: shapes, units, defaults
numpydoc_show_class_members = False  # the class template lists the methods


def skip_foreign_members(app, what, name, obj, skip, options):
    """Show of a class what skxmc defines, its base classes included, and nothing inherited else."""
    if what != "class":
        return None
    function = obj.fget if isinstance(obj, property) else inspect.unwrap(obj)
    function = getattr(function, "__func__", function)
    own = (getattr(function, "__module__", None) or "").startswith("skxmc")
    return None if own else True


# --- gallery

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "abort_on_example_error": True,
    "doc_module": "skxmc",
    "backreferences_dir": None,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "matplotlib_animations": False,
}

# --- pages

html_theme = "pydata_sphinx_theme"
html_title = f"skxmc {release}"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "skxmc"},
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_sidebars = {"whats_new": [], "contributing": []}
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-skip-member", skip_foreign_members)
