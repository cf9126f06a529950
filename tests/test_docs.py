"The site: what notebooks say, as mkdocs' pages and without a server or a network."

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from markdown import Markdown

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("docs", ROOT / "tools/docs.py")
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)
NOTEBOOKS = sorted((ROOT / "nbs").rglob("[!.]*.ipynb"))


def prose(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def test_a_quotation_with_a_bold_title_becomes_an_admonition():
    said = "Before.\n\n> **Not as in the paper.** One\n> two:\n>\n> - a\n>   b\n\nAfter.\n"
    assert (
        docs.callouts(said)
        == 'Before.\n\n!!! note "Not as in the paper"\n\n    One\n    two:\n\n    - a\n      b\n\nAfter.\n'
    )
    plain = "# Title\n\n> one line\n\n> said *so*\n> **bold** later\n"
    assert docs.callouts(plain) == plain


def test_symbols_are_spelt_as_they_are_and_docstrings_end_as_they_begin():
    said = docs.symbol("---\n\n### Space.__iter__\n\n```python\nx\n```\n\n*One line, and*\nanother of `it`.\n\nMore.")
    page = Markdown(extensions=["attr_list", "toc"]).convert(said)
    assert 'Space.__iter__ <a id="space.__iter__"></a></h3>' in page
    assert (
        Markdown(extensions=["attr_list", "toc"]).convert(docs.symbol("### ram_bytes"))
        == '<h3 id="ram_bytes">ram_bytes</h3>'
    )
    assert said.endswith("\n\n*One line, and another of `it`.*\n\nMore.")
    assert docs.symbol("*All of it.*\n\nMore.") == "*All of it.*\n\nMore."


def test_pictures_are_described_by_the_heading_above_them():
    said = "# Room\n\n![png](a.png)\n\n## Its plan {#plan}\n\n```python\n# a comment\n```\n\n![jpeg](b.jpg) and ![mine](c.png)\n"
    shown = docs.described(said)
    assert "![Room](a.png)" in shown and "![Its plan](b.jpg) and ![mine](c.png)" in shown
    assert shown.replace("![Room]", "![png]").replace("![Its plan]", "![jpeg]") == said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_directives_of_quarto(path):
    "JupyterLab shows them as they stand."
    assert not [text for text in prose(path) if ":::" in text or "{.callout" in text]


def test_every_formula_becomes_mathml():
    formulas = [
        found
        for path in NOTEBOOKS
        for text in prose(path)
        if "```" not in text
        for found in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, re.S)
    ]
    assert len(formulas) > 20
    for display, inline in formulas:
        tag, tex = ("div", rf"\[{display}\]") if display else ("span", rf"\({inline}\)")
        tex = tex.replace("&", "&amp;").replace("<", "&lt;")
        shown = docs.on_page_content(f'<p>so <{tag} class="arithmatex">{tex}</{tag}>.</p>')
        assert shown.startswith("<p>so <math") and "arithmatex" not in shown
        assert not re.search(r"\\\w", shown), f"{tex} is not understood: {shown}"
        assert (' display="block"' in shown) == bool(display)


def test_tables_of_pandas_are_tables_of_the_site():
    html = '<div>\n<style scoped>\n .dataframe {}\n</style>\n<table border="1" class="dataframe">\n<tr><td>1</td></tr>\n</table>\n</div>'
    shown = docs.on_page_content(html)
    assert '<div class="rows"><table>\n<tr>' in shown and "style" not in shown and "border" not in shown


def test_pages_fetch_nothing_from_elsewhere():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False and "offline" in settings["plugins"]
    assert any("iframe-worker" in url for url in settings["extra"]["polyfills"]), "the theme would fetch one"
    for name in [*settings["extra"]["polyfills"], *settings["extra_css"]]:
        assert (ROOT / "tools" / name).is_file() and "http" not in (ROOT / "tools" / name).read_text()
