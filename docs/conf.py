"""Sphinx configuration: pages are MyST Markdown, and their code cells are executed in every build."""

import os
import re
from pathlib import Path

from docutils import nodes

import xcarbon

project = "xcarbon"
author = "The xcarbon developers"
copyright = f"2026, {author}"
version = release = xcarbon.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints", "data/README.md"]

# References to xcarbon must resolve. Those to other libraries need inventories from the internet.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!xcarbon\b).*")]
if "READTHEDOCS" in os.environ:
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "dask": ("https://docs.dask.org/en/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
        "xarray": ("https://docs.xarray.dev/en/stable/", None),
    }

autodoc_typehints = "none"  # the docstrings state the types, with shapes and units
autosummary_generate = True
# File systems of macOS and Windows do not distinguish these from the functions and classes of the same name.
autosummary_filename_map = {
    "xcarbon.budget.mds.Sample": "xcarbon.budget.mds.Sample-class",
    "xcarbon.core.variables.LIMITS": "xcarbon.core.variables.LIMITS-data",
    "xcarbon.core.variables.Variable": "xcarbon.core.variables.Variable-class",
    "xcarbon.prep.split.Split": "xcarbon.prep.split.Split-class",
}
numpydoc_show_class_members = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Figures are drawn into the pages, whichever backend the shell selects.
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
# Pages are executed in a temporary folder; those that use the real tower-year copy it from here.
os.environ["XCARBON_DOCS_DATA"] = str(Path(__file__).parent / "data")
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = f"xcarbon {release}"
html_theme_options = {"navigation_with_keys": False, "navbar_center": []}
html_sidebars = {"**": ["sections"]}  # all pages, under the captions of index.md
html_static_path = ["_static"]
html_css_files = ["custom.css"]
templates_path = ["_templates"]

#: Docstrings may name a function by its module; the pages have it under its public name.
_HOMES = {f"xcarbon.{home}.{name}": f"xcarbon.{name}" for name, home in xcarbon._MODULES.items()}


def _link_public_name(app, env, node, content):
    target = node.get("reftarget", "")
    public = _HOMES.get(target) or _HOMES.get(f"{node.get('py:module')}.{target}")
    if public:
        return env.get_domain("py").resolve_xref(
            env, node["refdoc"], app.builder, "obj", public, node, content
        )


def _name_accessors(app, doctree):
    """Write methods of the accessors as users do."""
    for text in list(doctree.findall(nodes.Text)):
        short = re.sub(r"^(xcarbon\.accessor\.)?CarbonAccessor\.", "ds.carbon.", text)
        short = re.sub(r"^(xcarbon\.plotting\.)?CarbonPlot\.", "ds.carbon.plot.", short)
        if short != text:
            text.parent.replace(text, nodes.Text(short))


def setup(app):
    app.connect("missing-reference", _link_public_name)
    app.connect("doctree-read", _name_accessors)
