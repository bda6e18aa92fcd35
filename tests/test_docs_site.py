"""The docs site is built without a warning, and holds every page, term and command."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from conftest import ROOT, environment
from skillneurons.cli import COMMANDS, configuration

DOCS, RESULTS = ROOT / "docs", ROOT / "experiments" / "results"
TERMS = re.split(
    r",\s+",
    """soft prompt, backbone, label word, verbalizer, template, P, prompt card, split, half A, half B, majority rate,
    chance level, skill neuron, neuron, predictivity, site, site prompt, site prompt-body, site decoder, site label,
    baseline, random prompt, no prompt, calibrated no prompt, McNemar, Holm, Wilson interval, rank p,
    floor of the rank p, margin, no difference, cannot tell, suppression, zero, mean, noise, resample, faithfulness,
    CPR, CMD, consistency, ceiling, restoration, corruption, transfer, relative accuracy, attack success, champion,
    address, signature of failure, collapse, effect""",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "read")]
    done = subprocess.run(
        [*command, str(DOCS), str(out / "html")], env=environment(), capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out / "html"


def text_of(page: Path) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))).split())


def letters(text: str) -> str:
    """Without what typography changes."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def test_every_page_is_there(site):
    sources = [page.relative_to(DOCS) for page in DOCS.rglob("*.md") if "_build" not in page.parts]
    assert len(sources) > 25
    assert [str(page) for page in sources if not (site / page).with_suffix(".html").is_file()] == []


def test_every_result_has_its_page(site):
    folders = sorted(path.parent.name for path in RESULTS.glob("*/README.md"))
    assert sorted(page.stem for page in (DOCS / "results").glob("*.md")) == sorted([*folders, "index"])
    for name in folders:
        heading = (RESULTS / name / "README.md").read_text(encoding="utf-8").splitlines()[0]
        assert letters(heading) in letters(text_of(site / "results" / f"{name}.html"))


def test_the_glossary_defines_every_term(site):
    page = (site / "concepts.html").read_text(encoding="utf-8")
    defined = {re.sub(r"<[^>]+>", "", found).rstrip("¶#") for found in re.findall(r"<dt id=.*?>(.*?)</dt>", page)}
    assert [term for term in TERMS if term not in defined] == []


def test_the_reference_has_every_command_and_parameter(site):
    page = text_of(site / "reference" / "commands.html")
    for name, entry in COMMANDS.items():
        assert f"{name}: {entry.about}" in page
        assert [key for key in configuration(name).model_fields if f"--{key} " not in page] == []


def test_the_reference_has_every_function(site):
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    import skillneurons

    names = [name for name in skillneurons.__all__ if name.islower() and name != "__version__"]
    assert [name for name in names if f"skillneurons.api.{name}" not in page] == []


def test_every_link_inside_leads_somewhere(site):
    lost = []
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?:]+)[^"]*"', page.read_text(encoding="utf-8")):
            if link not in ("http", "https", "mailto") and not (page.parent / unescape(link)).exists():
                lost.append(f"{page.name}: {link}")
    assert lost == []


def test_nothing_is_fetched(site):
    for page in site.rglob("*.html"):
        found = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text(encoding="utf-8")
        )
        assert found == [], page.name
