"""The page of results on the site: every figure and table with its caption, claims and records, and the command that
draws it. All of it is read: paper.yml has titles and claims, the notebooks have captions, the records the rest."""

import json
import re
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import yaml
from nbdev.config import get_config

from dans.paper.reproduction import Reproduction

HEAD = """# Results

> Every figure and table: what it says, what it is drawn from, and the command that draws it

Nothing on this page is typed: titles and claims are those of `paper.yml`, captions those of the notebooks, and the rest
is read from the records beside the files. All are drawn from the committed rows of preset `cpu`; the commands
compute nothing and take seconds. [reproduce](tutorials/reproduce.md) says how to compute the rows themselves.
"""
KINDS = {"fig": "Figures", "tab": "Tables"}
ROWS = 12  # a table with more of them stands on its own page alone


def caption(
    notebook: Path,  # of a figure or table
) -> str:  # Markdown, one paragraph or more
    "What stands above the cell that draws and saves."
    said = ""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code" and re.search(r"\bsave_(figure|table)\(", cell.source):
            break
        if cell.cell_type == "markdown" and not cell.source.startswith("#"):
            said = cell.source
    return said


def on_the_site(
    text: str,  # Markdown of a notebook in nbs/paper
) -> str:
    "Links to other notebooks lead to their pages, from the root of the site."
    text = re.sub(r"\]\(\.\./([\w/]+)\.ipynb", r"](\1.md", text)
    return re.sub(r"\]\((\w+)\.ipynb", r"](paper/\1.md", text)


def at_commit(
    path: str,  # of a notebook, from the root
    commit: str = "",  # default: the last that changed it, or the branch where there is no history
) -> str:  # Markdown
    "A link to the notebook as it was then."
    config = get_config()
    asked = ["git", "log", "-1", "--format=%H", "--", path]
    if not commit:
        commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip() or config.branch
    commit, changed, _ = commit.partition("+")  # the tree had changes that were not committed
    name = commit[:7] if re.fullmatch(r"[0-9a-f]{40}", commit) else commit
    link = f"[{Path(path).stem} at {name}]({config.git_url}/blob/{commit}/{path})"
    return f"{link}, changed since" if changed else link


def drawn_from(
    record: dict,  # of a figure or table
    items: dict,  # of `paper.yml`
) -> str:  # Markdown, a line for each run
    "Which runs, at which commit, with which seeds, on which machine, and how long they took."
    runs = {}
    for name, rows in record.get("rows", {}).items():
        runs.setdefault(rows.get("item", name), rows)
    lines = []
    for run, rows in sorted(runs.items()):
        seeds = ", ".join(map(str, rows.get("seeds") or []))
        facts = [f"preset {rows['preset']}" if "preset" in rows else "", f"seeds {seeds}" if seeds else ""]
        facts += [rows.get("processor", ""), f"{rows['seconds']:,.0f} s" if rows.get("seconds") else ""]
        where = at_commit(items[run].notebook, rows.get("commit", "")) if run in items else run
        lines.append("; ".join([where, *filter(None, facts)]))
    return "".join(f"\n    - {line}" for line in lines) or " nothing but the code: no rows are read"


def entry(study, item, claims):
    "One figure or table as Markdown."
    (stem,) = item.stems(study.out)
    page, notebook = f"paper/{Path(item.notebook).stem}.md", study.root / item.notebook
    parts = [f"### {item.title} {{#{item.id}}}"]
    if not all(path.is_file() for path in item.files(study.out)):
        runs = ", ".join(f"[{run}](paper/{Path(study.items[run].notebook).stem}.md)" for run in item.needs)
        parts += [on_the_site(caption(notebook)), f"*Not drawn yet. It waits for rows of {runs}.*"]
        return "\n\n".join([*parts, f"- Notebook: [its page]({page})"])
    record = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    files = [path for path in item.files(study.out) if path.suffix != ".md"]  # which stands on this page
    links = [f"[{path.suffix[1:].upper()}](figures/{path.name})" for path in files]
    if item.kind == "fig":
        parts.append(f"[![{item.title}](figures/{item.id}.png)]({page})")
    elif len(pd.read_csv(stem.with_suffix(".csv"))) <= ROWS:
        parts.append(stem.with_suffix(".md").read_text(encoding="utf-8").strip())
    else:
        parts.append(f"[The table]({page}) is long and stands on its page.")
    facts = [f"- Claim {name}: {claims[name]}" for name in item.claim]
    facts += [f"- Drawn from:{drawn_from(record, study.items)}"]
    facts += [f"- Notebook: [its page]({page}), {at_commit(item.notebook)}", f"- Files: {', '.join(links)}"]
    facts += [f"- Command: `make figures ONLY={item.id}`"]
    if why := study.why_not(item):
        facts.append(f"- **Not current**: {why}")
    return "\n\n".join([*parts, on_the_site(caption(notebook)), "\n".join(facts)])


def gallery(
    root: Path,  # the checkout
) -> str:  # Markdown
    "The page of results."
    study = Reproduction("cpu", root=root)
    claims = yaml.safe_load((root / "paper.yml").read_text(encoding="utf-8"))["claims"]
    parts = [HEAD]
    for kind, name in KINDS.items():
        found = [entry(study, item, claims) for item in study.items.values() if item.kind == kind]
        parts += [f"## {name}", *found]
    return "\n\n".join(parts) + "\n"
