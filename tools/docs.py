"""README.md and the site in _docs/ from the notebooks.

    python tools/docs.py readme    the tables of rooms and claims in nbs/index.ipynb, and README.md from that
    python tools/docs.py site      the whole site, by mkdocs

nbdev processes the notebooks (documentation of each symbol, links, hidden cells), nbconvert makes
Markdown of them.
"""

import ast
import contextlib
import importlib
import inspect
import json
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from functools import reduce
from html import unescape
from itertools import groupby
from pathlib import Path
from textwrap import dedent

import nbformat
import pandas as pd
import yaml
from nbconvert import MarkdownExporter
from nbdev.config import get_config
from nbdev.processors import FilterDefaults
from nbdev.serve import proc_nbs
from nbdev.serve_drv import main as process
from nbformat.v4 import new_code_cell, new_markdown_cell
from traitlets.config import Config

from dans.choose.verdict import CLAIMS

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "_proc" / "site"
FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.S)
LONGEST = 200  # characters of a sentence that describes a picture
WINGS = {  # in reading order; the ground floor has no name
    "": "The ground floor: what is searched, and what everything stands on",
    "data": "Images and sound: from a file of any kind to an array",
    "cost": "Cost: what a system, a file and a board take and hold",
    "net": "Weights: how they are shared, trained and scored",
    "choose": "Choice: who proposes, and whether its scores can be believed",
    "board": "The board: an int8 file, checked and handed over",
    "paper": "The paper: what is computed, kept, drawn and claimed",
    "front": "The front: your own images or sounds, in one command",
}
# in reading order; others come after them
GUIDES = ["quickstart", "own_images", "own_sounds", "own_board", "own_search", "explore", "reproduce", "gpu", "cluster"]


def title(cells):
    "The front matter that nbdev has made of the title cell, as Markdown again."
    match = next((m for c in cells if c.cell_type == "raw" and (m := FRONT.match(c.source))), None)
    if not match:
        return ""
    fields = yaml.safe_load(match[1])
    said = f"\n> {fields['description']}\n" if "description" in fields else ""
    return f"# {fields.get('title', '')}\n{said}\n"


def fields(found):
    "How a class begins in its source: bases, and fields with their comments; nothing where it has no fields."
    source = dedent(inspect.getsource(found))
    (node,) = ast.parse(source).body
    lines, own = source.splitlines(), [part for part in node.body if isinstance(part, ast.AnnAssign)]
    if not own:
        return ""
    return "\n".join(lines[: node.body[0].lineno - 1] + lines[own[0].lineno - 1 : own[-1].end_lineno])


def as_classes(text, module):
    "Documentation of symbols where classes are shown as such, not as functions that return None."

    def shown(match):
        found = reduce(lambda owner, name: getattr(owner, name, None), match[2].split("."), module)
        if not inspect.isclass(found):
            return match[0]
        signature = re.sub(r"\)->None:$", "):", match[3].replace("def ", "class ", 1))
        return f"{match[1]}```python\n{fields(found) or signature}\n```"

    return re.sub(r"(^### (\S+)\n+)```python\n(.*?)\n```", shown, text, flags=re.M | re.S)


def symbol(text):
    "A symbol's documentation: its heading as it is spelt and with an anchor, its docstring in italics to the end."

    def heading(match):
        name, anchor = match[1].replace("_", r"\_"), match[1]  # of `Fit` and `fit`, each has its own
        return f'### {name} <a id="{anchor}"></a>' if "__" in anchor else f"### {name} {{#{anchor}}}"

    def docstring(match):
        return "*" + " ".join(f"{match[1]}\n{match[2]}".split()) + "*"

    text = re.sub(r"^### (\S+)$", heading, text, flags=re.M)
    return re.sub(r"^\*(\S.*)\*\n(.+(?:\n.+)*)", docstring, text, flags=re.M)


def below(output):
    "An output whose headings stand below those of its page."
    if "text/markdown" in output.get("data", {}):
        parts = re.split(r"(^```.*?^```)", output.data["text/markdown"], flags=re.M | re.S)
        parts[::2] = [re.sub(r"^(#+) ", r"##\1 ", part, flags=re.M) for part in parts[::2]]
        output.data["text/markdown"] = "".join(parts)
    return output


def shown(cell, module=None):
    "A processed cell as readers see it: no directives or bars; symbols of the room's module get an anchor."
    if cell.cell_type != "code":
        return cell
    outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    if re.search(r"^#\| *echo: *false", cell.source, re.M):
        text = "\n\n".join(o.data.get("text/markdown", "") for o in outputs if "data" in o)
        return new_markdown_cell(symbol(as_classes(text, module)))
    return new_code_cell(re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M), outputs=list(map(below, outputs)))


def callouts(text):
    "Quotations that begin with a title in bold and its full stop, as mkdocs' admonitions."

    def admonition(match):
        body = re.sub(r"^> ?", "", match[2], flags=re.M).strip()
        return f'!!! note "{match[1]}"\n\n' + re.sub(r"^(?=.)", "    ", body, flags=re.M) + "\n"

    return re.sub(r"(?:\A|(?<=\n\n))> \*\*(.+?)\.\*\*((?:.*\n)(?:>.*\n)*)", admonition, text)


def sentence(paragraph):
    "What a paragraph says of the picture below it, in plain words: its last sentence before a colon, else its first."
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
    parts = re.split(r"(?<=[.:?]) (?=[A-Z`])", re.sub(r"[`*\[\]]", "", plain))
    said = (parts[-1] if parts[-1].endswith(":") else parts[0]).rstrip(".: ")
    return "" if re.search(r"[$\\]", said) or len(said) > LONGEST else said


def described(text):
    "Pictures of outputs, which have no words of their own, are described by the heading and the paragraph above them."
    heading = said = ""

    def described_by(match):
        nonlocal heading, said
        if match["heading"]:
            heading, said = match["heading"], ""
        if match["prose"]:
            said = sentence(match["prose"])
        return f"![{': '.join(filter(None, (heading, said)))}]" if match[0].startswith("![") else match[0]

    parts = r"^```.*?^```$|^#+ (?P<heading>[^\n]+?)(?: \{#[^\n]*| <a [^\n]*)?$|!\[(?:png|jpeg|svg)\](?=\()"
    parts += r"|(?<=\n\n)(?P<prose>[A-Z`][^\n]*(?:\n[^\n]+)*)$"
    return re.sub(parts, described_by, text, flags=re.M | re.S)


def stepped(text):
    "No heading is more than one level below the one before it: a symbol may stand first on its page."
    last = 0

    def heading(match):
        nonlocal last
        if match[0].startswith("```"):
            return match[0]
        last = min(len(match[1]), last + 1)
        return f"{'#' * last} "

    return re.sub(r"^```.*?^```$|^(#+) ", heading, text, flags=re.M | re.S)


def markdown(path, pictures, site, module=None):
    "A processed notebook of `module` as Markdown, and its pictures (name -> bytes), named `pictures`_..."
    notebook = nbformat.read(path, as_version=4)
    head = title(notebook.cells)
    cells = (shown(cell, module) for cell in notebook.cells if cell.cell_type != "raw")
    notebook.cells = [cell for cell in cells if cell.source or cell.get("outputs")]
    notebook.metadata = {"language_info": {"name": "python"}}
    exporter = MarkdownExporter(
        config=Config(
            {"ExtractOutputPreprocessor": {"output_filename_template": pictures + "_{cell_index}_{index}{extension}"}}
        )
    )
    text, found = exporter.from_notebook_node(notebook)
    text = callouts(text) if site else text
    text = re.sub(r"<!-- WARNING: THIS FILE WAS AUTOGENERATED.*?-->\n*", "", text)
    text = described(head + text.lstrip())
    text = stepped(text) if site else text
    text = re.sub(r"\n{3,}", "\n\n", text).replace("../figures/", "figures/")
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n", found["outputs"]


def rooms():
    "(wing, notebook below nbs/, module, first line) of all rooms, in reading order."
    for path in sorted((ROOT / "nbs").rglob("[0-9][0-9]*_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        if not (module := re.match(r"#\| *default_exp ([\w.]+)", cells[0].source)):
            continue  # a notebook of the paper, a checkpoint
        line = re.search(r"^> (.+)$", cells[1].source, re.M)[1]
        name = f"dans.{module[1]}".removesuffix(".__init__")
        yield module[1].rpartition(".")[0], path.relative_to(ROOT / "nbs").as_posix(), name, line


def rooms_table(found):
    "The rooms as Markdown: a heading in bold and a table for each wing."
    parts, found = [], list(found)
    for wing, below in groupby(found, key=lambda room: room[0]):
        lines = [f"| [{path.rpartition('/')[2][:-6]}]({path}) | `{name}` | {line} |" for _, path, name, line in below]
        title = f"**{WINGS[wing]}**\n\n" if found[-1][0] else ""
        parts += [f"{title}| notebook | module | question |\n|---|---|---|\n" + "\n".join(lines)]
    return "\n\n".join(parts)


def claims_row(row):
    "A row of the table of claims: part, effect with its interval, smallest visible effect, verdict."
    if pd.isna(row.effect):
        return f"| {row.claim} | {row.data} | {row.part} | | | {row.verdict} |"
    against = "" if pd.isna(row.against) else f" (against {row.against}{for_its_cost(row.spent)})"
    form = ".1f" if row.unit == "times" else "+.2f"
    effect = "{:{f}} ({:{f}} to {:{f}}) {}".format(row.effect, row.low, row.high, row.unit, f=form)
    visible = "" if pd.isna(row.smallest_visible) else f"{row.smallest_visible:.2g}"
    return f"| {row.claim} | {row.data} | {row.part}{against} | {effect} | {visible} | {row.verdict} |"


def for_its_cost(times):
    "What a search has spent of an equal budget, where that is far from what its rival has."
    return f", for {times:.1f} times its cost" if abs(math.log(times)) > math.log(1.1) else ""  # of NaN: no


def joined(names):
    "Neighbours in a row: C1, C1 and C2, C1 to C3."
    return names[0] if len(names) == 1 else f"{names[0]} {'to' if len(names) > 2 else 'and'} {names[-1]}"


def in_words(table):
    "The verdict on each claim as a whole, in sentences."
    wholes = {data: dict(zip(of["claim"], of["whole"])) for data, of in table.groupby("data", sort=False)}
    held = [f"{claim} on {data}" for data, of in wholes.items() for claim, word in of.items() if word == "supported"]
    said = f"Supported as a whole: {', '.join(held)}." if held else "No claim is supported as a whole, on either table."
    each = (
        "; ".join(f"{joined([*of_word])} {word}" for word, of_word in groupby(of, of.get)) for of in wholes.values()
    )
    return " ".join([f"**{said}**", *(f"On {data}: {words}." for data, words in zip(wholes, each))])


def claims_table(path):
    "The claims, and the committed table of their verdicts, as Markdown."
    said, table = [f"- **{name}** {claim}" for name, claim in CLAIMS.items()], pd.read_csv(path)
    head = "| claim | data | what is compared | effect (90 % interval) | smallest visible | verdict |"
    return "\n".join([*said, "", in_words(table), "", head, "|---" * 6 + "|", *map(claims_row, table.itertuples())])


def write_index():
    "The tables in nbs/index.ipynb that are made: of rooms, and of claims; each ends the cell below its heading."
    path = ROOT / "nbs" / "index.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for heading, table in (
        ("## The rooms", rooms_table(rooms())),
        ("## What holds", claims_table(ROOT / "figures" / "tab_claims.csv")),
    ):
        n = next(n for n, cell in enumerate(notebook.cells) if cell.source.strip() == heading)
        cell = notebook.cells[n + 1]
        cell.source = re.split(r"\n\n(?=\||\*\*|- \*\*)", cell.source, maxsplit=1)[0] + "\n\n" + table
    text = nbformat.writes(notebook, indent=1, ensure_ascii=False, sort_keys=True).rstrip("\n") + "\n"
    if text != path.read_text(encoding="utf-8"):
        path.write_text(text, encoding="utf-8")


def readme():
    "README.md: links go to the notebooks of the repository, pictures of outputs to figures/."
    write_index()
    host = re.escape(get_config().doc_host + get_config().doc_baseurl)
    index = ROOT / "_proc" / "index.ipynb"
    index.parent.mkdir(exist_ok=True)
    process((ROOT / "nbs" / "index.ipynb", index, FilterDefaults))
    text, pictures = markdown(index, "figures/readme", site=False)
    text = re.sub(rf"\[(`[^`]+`)\]\({host}[^)]*\)", r"\1", text)  # the site may not be there yet
    text = re.sub(r"\]\((?!\w+:|/|#|figures/)([\w/]+\.ipynb)", r"](nbs/\1", text).replace("](../", "](")
    for old in (ROOT / "figures").glob("readme_*.png"):
        old.unlink()
    for name, data in pictures.items():
        (ROOT / name).write_bytes(data)
    made = "<!-- Made from nbs/index.ipynb by `make readme`; edit that. -->\n\n"
    (ROOT / "README.md").write_text(made + text, encoding="utf-8")
    print("README.md is made from nbs/index.ipynb")


def to_repository(text, folder):
    "Links of a notebook in `folder` below nbs/ to files that are no pages lead to the repository."
    config = get_config()

    def link(match):
        path = (ROOT / "nbs" / folder / match[1]).resolve()
        inside = path.exists() and ROOT in path.parents and ROOT / "nbs" not in path.parents
        kind = "tree" if path.is_dir() else "blob"
        shown = f"{config.git_url}/{kind}/{config.branch}/{path.relative_to(ROOT).as_posix()}" if inside else match[1]
        return f"]({shown})"

    return re.sub(r"(?<=[\w`])\]\((\.\./[^)#\s]+)\)", link, text)


def explorer():
    "All that the explorer's script looks up, as a script: of tables, boards, and one drawn scene."
    from dans.choose import explore
    from dans.choose.benchmark import load_benchmark
    from dans.data.scenes import draw
    from dans.space import SearchSpace

    with contextlib.redirect_stderr(None):  # that a table still grows says the page
        tables = [explore.table_for_page(load_benchmark(name)) for name in explore.tables()]
    about = dict(tables=tables, boards=explore.boards_for_page(), steps=explore.STEPS, times=explore.TIMES)
    configs = SearchSpace.preset("bench").data_configs
    about |= dict(libraries=len(explore.LIBRARIES), views=explore.views_for_page(draw(0, "test", 19)[0], configs))
    return f"const EXPLORER = {json.dumps(about, separators=(',', ':'))}\n"


def its_notebook(path):
    "The last line of a page: where its notebook is, and, of a figure or table, its files."
    config, notebook = get_config(), f"nbs/{path.as_posix()}"
    said = f"\n---\n\nThis page is the notebook [{notebook}]({config.git_url}/blob/{config.branch}/{notebook})"
    items = yaml.safe_load((ROOT / "paper.yml").read_text(encoding="utf-8"))["items"]
    for id, item in items.items():
        if item["notebook"] == notebook and not id.startswith("run"):
            said += f"; its files and where they come from stand among the [results](../results.md#{id})"
    return f"{said}.\n"


def site():
    "The site in _docs/: one page a notebook, and one of all results; links between them checked."
    from gallery import gallery

    warnings.filterwarnings("ignore", "Found cells containing imports")  # tests/test_docs.py holds them apart
    source = Path(proc_nbs("nbs", n_workers=0, force=True))
    shutil.rmtree(PAGES, ignore_errors=True)
    modules = {path: module for _, path, module, _ in rooms()}
    notebooks = [p.relative_to(source) for p in sorted(source.rglob("*.ipynb")) if PAGES not in p.parents]
    host = re.escape(get_config().doc_host + get_config().doc_baseurl)
    page_of = {re.sub(r"^[0-9][0-9][a-z]?_", "", p.stem): p.with_suffix(".md") for p in notebooks}
    for path in notebooks:
        module = modules.get(path.as_posix())
        module = module and importlib.import_module(module)
        text, pictures = markdown(source / path, path.stem, site=True, module=module)
        text = to_repository(text, path.parent) + its_notebook(path)

        def link(match, up="../" * (len(path.parts) - 1)):
            words, page, anchor = match[1], page_of.get(match[2]), match[3] or ""
            if anchor and words.lower().endswith(anchor):  # nbdev's anchors are in small letters
                anchor = words[-len(anchor) :]
            return f"[`{words}`]({up}{page}{anchor and '#'}{anchor})" if page else match[0]

        text = re.sub(rf"\[`([^`]+)`\]\({host}/(?:\w+/)*(\w+)\.html(?:#([^)]*))?\)", link, text)
        text = re.sub(r"\]\((?!\w+:)([\w./]+)\.ipynb", r"](\1.md", text)
        if path.stem == "explore":
            sliders = (ROOT / "tools/explorer.html").read_text(encoding="utf-8")
            text = text.replace("```python", f"{sliders}\n```python", 1)
        page = PAGES / path.with_suffix(".md")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
        for name, data in pictures.items():
            (page.parent / name).write_bytes(data)
    if (ROOT / "figures").is_dir():
        shutil.copytree(
            ROOT / "figures",
            PAGES / "figures",
            ignore=shutil.ignore_patterns("*.md"),  # which would be pages
        )
    (PAGES / "results.md").write_text(gallery(ROOT), encoding="utf-8")
    for name in ("site.css", "site.js", "iframe-worker.js", "explorer.js"):
        shutil.copy(ROOT / "tools" / name, PAGES)
    (PAGES / "explorer-data.js").write_text(explorer(), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--clean"],
        cwd=ROOT,
        check=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    print("the site is in _docs/: open _docs/index.html")


def navigation(pages):
    "For mkdocs: the pages, in reading order; rooms have their numbers, as in the text."
    items = yaml.safe_load((ROOT / "paper.yml").read_text(encoding="utf-8"))["items"]
    paper = {f"paper/{Path(item['notebook']).stem}.md": id[:3] for id, item in items.items()}  # in the paper's order
    parts = {"Claims": ["paper/tab_claims.md"], "Figures": [], "Tables": [], "Runs": []}
    for page, kind in paper.items():
        name = "Claims" if "/claim" in page else {"fig": "Figures", "tab": "Tables", "run": "Runs"}[kind]
        parts[name] += [page] if page in pages and page not in parts[name] + parts["Claims"] else []
    wings = {}
    for wing, path, _, _ in rooms():
        page = path.replace(".ipynb", ".md")
        number, name = re.match(r"([0-9]+[a-z]?)_(.*)", Path(path).stem).groups()
        heading = re.search(r"^# (.+)", (PAGES / page).read_text(encoding="utf-8"), re.M)
        wings.setdefault(WINGS[wing].partition(":")[0], []).append(
            {f"{number} {heading[1] if heading else name}": page}
        )
    guides = sorted(page for page in pages if page.startswith("tutorials/"))
    guides.sort(key=lambda page: (*GUIDES, Path(page).stem).index(Path(page).stem))
    results = [{"All of them": "results.md"}, *({name: found} for name, found in parts.items() if found)]
    return [
        {"Start": "index.md"},
        {"Guides": guides},
        {"Results": [*results, {"Measured beside": ["benchmarks.md", "robustness.md"]}]},
        {"Rooms": [{name: found} for name, found in wings.items()]},
        {"Archive": sorted(page for page in pages if page.startswith("archive/"))},
    ]


def on_config(config, **_):
    "For mkdocs, whose hook this is: where the site will lie, and the order of its pages."
    folder = Path(config["docs_dir"])
    config["site_url"] = get_config().doc_host + get_config().doc_baseurl + "/"
    config["nav"] = navigation({path.relative_to(folder).as_posix() for path in folder.rglob("*.md")})
    return config


def on_page_content(html, **_):
    "For mkdocs: formulas as MathML, which browsers draw by themselves; tables of pandas as other tables."
    from latex2mathml.converter import convert

    def formula(match):
        tex = unescape(match[2]).strip()[2:-2]  # between \\( and \\), or \\[ and \\]
        return convert(tex, display="block" if match[1] == "div" else "inline")

    html = re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', formula, html, flags=re.S)
    html = re.sub(r"<style scoped>.*?</style>", "", html, flags=re.S)
    table = r'<table border="1" class="dataframe">(.*?)</table>'
    html = re.sub(table, r'<div class="rows"><table>\1</table></div>', html, flags=re.S)
    return html.replace("<th></th>", "<td></td>")


def on_post_page(output, **_):
    "For mkdocs: the search has a name for those who do not see it."
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )


if __name__ == "__main__":
    commands = {"readme": readme, "site": site}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.chdir(ROOT)
    commands[sys.argv[1]]()
