"""How sphinx makes the site (`make docs`): nothing is fetched; what has its source elsewhere is read from there."""

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "src"), str(HERE)]

import notebook_page  # noqa: E402, I001
from pygments.lexers.special import TextLexer  # noqa: E402

from skillneurons import cli  # noqa: E402
from skillneurons.about import __version__  # noqa: E402

project = "skillneurons"
author = "the skillneurons authors"
version = release = __version__
language = "en"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "skillneurons"
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the text says it shorter
default_role = "code"  # docstrings name code between single backticks
nitpicky = True
# what has no page here: other packages' classes, and ours that no page of the reference shows
nitpick_ignore_regex = [
    ("py:.*", r"(pd|pandas|np|numpy|torch|nn|collections|pathlib|npt)\..*"),
    ("py:.*", r"skillneurons\.(data\.sources|backbones)\..*"),
    ("py:class", r"(Backbone|Path|Tensor)"),
]

RESULTS = ROOT / "experiments" / "results"
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(#[^)\s]*)?(?=\))")


def commands() -> str:
    """A section for each command, with what its `--help` prints."""
    told = [f"## {name}\n\n```text\n{cli.help_text(name, 100)}\n```\n" for name in cli.COMMANDS]
    return "\n".join([f"```text\n{cli.help_text(width=100)}\n```\n", *told])


def placed(text: str, at: Path, page: Path) -> str:
    """The text of `at`, with its links as they have to be written on `page`, another place's README being a page."""

    def link(found: re.Match[str]) -> str:
        target, anchor = (at.parent / found[1]).resolve(), found[2] or ""
        if target.name == "README.md" and target.parent.parent == RESULTS:
            target = HERE / "results" / f"{target.parent.name}.md"
        if not target.exists():
            return found[0]  # sphinx says so
        return os.path.relpath(target, page.parent).replace(os.sep, "/") + anchor

    return LINK.sub(link, text)


def read_source(app, docname: str, source: list[str]) -> None:
    """Fill in what a page has from elsewhere, and lead links to where they lead on the site."""
    page = HERE / f"{docname}.md"
    if docname == "reference/commands":
        source[0] = source[0].replace("<!-- commands -->", commands())
    elif docname.startswith("notebooks/"):
        app.env.note_dependency(str(page.with_suffix(".py")))
        run = os.environ.get("NOTEBOOK") == "run"
        source[0] = notebook_page.markdown(page.with_suffix(".py"), Path(app.outdir).parent / "notebook", run)
    elif docname.startswith("results/") and docname != "results/index":
        readme = RESULTS / page.stem / "README.md"
        app.env.note_dependency(str(readme))
        source[0] = placed(readme.read_text(encoding="utf-8"), readme, page)
    else:
        source[0] = placed(source[0], page, page)


def read_docstring(app, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """What napoleon would take for a type: the words before a property's first colon, and the first of two names."""
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " – ", 1)
    lines[:] = [re.sub(r"^(\s+\w+), (\w+): ", r"\1/\2: ", line) for line in lines]


def outdated(app, env, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """What is made of the code is read anew each time."""
    return ["reference/commands", "reference/api"]


def setup(app) -> None:
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)  # before napoleon
    app.add_lexer("mermaid", TextLexer)  # GitHub draws it; drawing it here would fetch a script
