"The site: what notebooks say, as mkdocs' pages and without a server or a network."

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from make_data import class_folder
from markdown import Markdown
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("docs", ROOT / "tools/docs.py")
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)
spec = importlib.util.spec_from_file_location("gallery", ROOT / "tools/gallery.py")
gallery = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gallery)
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
    assert 'Space.__iter__ <a id="Space.__iter__"></a></h3>' in page
    assert (
        Markdown(extensions=["attr_list", "toc"]).convert(docs.symbol("### ram_bytes"))
        == '<h3 id="ram_bytes">ram_bytes</h3>'
    )
    assert said.endswith("\n\n*One line, and another of `it`.*\n\nMore.")
    assert docs.symbol("*All of it.*\n\nMore.") == "*All of it.*\n\nMore."


def test_pictures_are_described_by_the_heading_and_the_paragraph_above_them():
    said = (
        "# Room\n\n![png](a.png)\n\n## Its plan {#plan}\n\n```python\n# a comment\n```\n\n"
        "![jpeg](b.jpg) and ![mine](c.png)\n"
    )
    shown = docs.described(said)
    assert "![Room](a.png)" in shown and "![Its plan](b.jpg) and ![mine](c.png)" in shown
    assert shown.replace("![Room]", "![png]").replace("![Its plan]", "![jpeg]") == said
    above = "## Plan\n\nWhat [room 4](a.ipynb) draws, in\n`blocks`. More.\n\n    An output.\n\n![png](d.png)\n"
    assert "![Plan: What room 4 draws, in blocks](d.png)" in docs.described(above)
    assert "![Plan: Two of them](d.png)" in docs.described(above.replace("More.", "Two of them:"))
    assert "![Plan](d.png)" in docs.described(above.replace("draws", "draws $n$"))
    assert "![Next](d.png)" in docs.described(above.replace("    An output.", "## Next"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_directives_of_quarto(path):
    "JupyterLab shows them as they stand."
    assert not [text for text in prose(path) if ":::" in text or "{.callout" in text]


def test_links_to_files_that_are_no_pages_lead_to_the_repository():
    said = "see [the card](../../results/benchmark/README.md), [rows](../../results), [a room](../04_space.ipynb)"
    shown = docs.to_repository(said, "archive")
    assert "/blob/main/results/benchmark/README.md)" in shown and "/tree/main/results)" in shown
    assert shown.endswith(said.partition(", [a room]")[2]), "pages stay"


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
    html = (
        '<div>\n<style scoped>\n .dataframe {}\n</style>\n<table border="1" class="dataframe">\n'
        "<tr><td>1</td></tr>\n</table>\n</div>"
    )
    shown = docs.on_page_content(html)
    assert '<div class="rows"><table>\n<tr>' in shown and "style" not in shown and "border" not in shown


def test_pages_fetch_nothing_from_elsewhere():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False and "offline" in settings["plugins"]
    assert any("iframe-worker" in url for url in settings["extra"]["polyfills"]), "the theme would fetch one"
    for name in [*settings["extra"]["polyfills"], *settings["extra_css"]]:
        assert (ROOT / "tools" / name).is_file() and "http" not in (ROOT / "tools" / name).read_text()


# Rooms, numbers and links


def room_number(name):
    return re.sub(r"^0(?=\d)", "", name.partition("_")[0])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_to_files_and_numbers_of_rooms_are_those_of_their_links(path):
    numbers = {room_number(p.name) for p in NOTEBOOKS if re.match(r"\d\d[a-z]?_", p.name)}
    for text in prose(path):
        for words, target in re.findall(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)", text):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
            number = re.fullmatch(r"[Rr]oom (\d\d[a-z]?)", words)
            assert not number or Path(target).name.startswith(number[1] + "_"), f"[{words}]({target})"
        for number in re.findall(r"\b[Rr]ooms? (\d\d[a-z]?)\b", text):
            assert room_number(number) in numbers, f"{path.name}: there is no room {number}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_notebooks_that_pages_name_are_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"\bnbs/[\w/]+\.ipynb", text)) - {"nbs/NN_name.ipynb"}
    assert named and all((ROOT / path).exists() or "NAME" in path for path in named)


def test_the_readme_lists_every_room_below_its_wing():
    found = list(docs.rooms())
    listed = re.findall(r"^\| \[\w+\]\(nbs/(\S+\.ipynb)\) \| `(dans[\w.]*)` \|", (ROOT / "README.md").read_text(), re.M)
    assert listed == [(path, name) for _, path, name, _ in found] and len(found) > 25
    assert docs.rooms_table(found) in "\n".join(prose(ROOT / "nbs/index.ipynb"))
    rooms = [("", "01_a.ipynb", "a", "A?"), ("data", "1_data/10_b.ipynb", "wing.b", "B?")]
    shown = docs.rooms_table(rooms)
    assert shown.count("**") == 4 and shown.index(docs.WINGS["data"]) < shown.index("[10_b](1_data/10_b.ipynb)")
    assert docs.rooms_table(rooms[:1]).startswith("| notebook |")


def test_the_order_of_the_site_has_every_page_once_and_rooms_with_their_numbers(tmp_path, monkeypatch):
    pages = {path.relative_to(ROOT / "nbs").with_suffix(".md").as_posix() for path in NOTEBOOKS}
    for page in pages:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text("# Its heading\n")
    monkeypatch.setattr(docs, "PAGES", tmp_path)
    found, names = [], {}

    def walk(part, name=""):
        if isinstance(part, str):
            found.append(part)
            names[part] = name
        for each in part if isinstance(part, list) else part.items() if isinstance(part, dict) else ():
            walk(each[1] if isinstance(each, tuple) else each, each[0] if isinstance(each, tuple) else name)

    nav = docs.navigation(pages)
    walk(nav)
    assert sorted(found) == sorted({*pages, "results.md"})
    assert names["2_cost/30_memory.md"] == "30 Its heading" and [*nav[0]] == ["Start"]
    wings = [told.partition(":")[0] for told in docs.WINGS.values()]
    assert [name for part in nav[3]["Rooms"] for name in part] == wings


def test_classes_are_shown_with_their_fields_and_functions_as_they_are():
    from dans.cost import boards

    said = "### {}\n\n```python\ndef {}(\n    board:str\n)->None:\n```\n\n*What it is.*"
    shown = docs.as_classes(said.format("Device", "Device"), boards)
    assert "@dataclass(frozen=True)\nclass Device:\n    board: str  # what one buys\n" in shown
    assert "->None" not in shown and shown.endswith("```\n\n*What it is.*")
    assert docs.as_classes(said.format("holders", "holders"), boards) == said.format("holders", "holders")
    error = docs.as_classes(said.format("DansError", "DansError"), boards)
    assert "class DansError(\n    board:str\n):" in error, "without fields, what it is made of"


def test_headings_of_outputs_stand_below_their_page_and_no_level_is_left_out():
    output = NotebookNode(data={"text/markdown": "# A card\n\n```sh\n# no heading\n```\n\n## Data\n"})
    assert docs.below(output).data["text/markdown"] == "### A card\n\n```sh\n# no heading\n```\n\n#### Data\n"
    said = "# Room\n\n### symbol\n\n```sh\n### no heading\n```\n\n## Part\n\n### other\n"
    assert docs.stepped(said) == said.replace("### symbol", "## symbol")


def test_the_page_of_results_is_read_and_not_typed():
    page = gallery.gallery(ROOT)
    items = yaml.safe_load((ROOT / "paper.yml").read_text(encoding="utf-8"))["items"]
    parts = dict(re.findall(r"^### [^\n]* \{#(\w+)\}\n(.*?)(?=^##|\Z)", page, re.M | re.S))
    assert set(parts) == {id for id in items if not id.startswith("run")}
    caption = "A line for each way of choosing the data: the test accuracy of what is chosen"
    assert caption in parts["fig_time"] and gallery.caption(ROOT / "nbs/paper/fig_time.ipynb").startswith(caption)
    record = json.loads((ROOT / "figures/fig_time.json").read_text())["rows"]["arms/animals"]
    assert f"/blob/{record['commit'].rstrip('+')}/nbs/paper/run_arms.ipynb" in parts["fig_time"]
    assert "Claim C2: The same holds at any given cost" in parts["fig_time"]
    changed = gallery.at_commit("nbs/paper/run_x.ipynb", "a" * 40 + "+")
    assert changed.endswith(f"/blob/{'a' * 40}/nbs/paper/run_x.ipynb), changed since")


def test_imports_stand_apart_where_nbdev_runs_them_for_the_documentation():
    "It runs each cell that imports, and none of those before that only compute."
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        if not any(source.startswith("#| default_exp") for source in sources):
            continue
        for source in sources:
            if re.search(r"^#\| *(export|exporti|exports|eval: *false)", source, re.M):
                continue
            code = ast.parse(re.sub(r"^[%!].*", "", source, flags=re.M))
            imports = [node for node in ast.walk(code) if isinstance(node, ast.Import | ast.ImportFrom)]
            apart = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef
            assert not imports or all(isinstance(node, apart) for node in code.body), f"{path.name}:\n{source[:300]}"


def test_the_ten_lines_lead_from_images_to_firmware(tmp_path):
    "As they stand in the README, but for the number of passes and evaluations, and with a space of short networks."
    (code,) = re.findall(r"```python\n(import dans\n.*?)```", (ROOT / "README.md").read_text(), re.S)[:1]
    assert len(code.strip().splitlines()) <= 13 and code.count("import") == 1
    short = '(16, "rgb", (0.1, 0.2), (1, 0, 0, 0, 0))'
    for many, few in (('.preset("quick")', short), ('["train"])', '["train"], epochs=1)'), ("=100", "=4")):
        assert many in code
        code = code.replace(many, few)
    class_folder(tmp_path / "photos", n=60)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"model.tflite", "model_data.h"} <= {p.name for p in (tmp_path / "firmware").iterdir()}, done.stderr


def test_the_claims_are_told_in_words_whichever_way_they_fell():
    words = dict(animals=["supported", "not tested", "not tested", "not tested"], wake_scenes=["opposite"] * 4)
    rows = [(f"C{n}", data, word) for data, of in words.items() for n, word in enumerate(of, 1)]
    table = docs.pd.DataFrame([*rows, rows[-1]], columns=["claim", "data", "whole"])
    said = "**Supported as a whole: C1 on animals.** On animals: C1 supported; C2 to C4 not tested. "
    assert docs.in_words(table) == said + "On wake_scenes: C1 to C4 opposite."
    none = docs.in_words(table.assign(whole=["not visible", "opposite"] * 4 + ["opposite"]))
    assert none.startswith("**No claim is supported as a whole, on either table.** On animals: C1 not visible; C2 opp")
    assert [docs.for_its_cost(times) for times in (2.53, 1.0, float("nan"))] == [", for 2.5 times its cost", "", ""]
