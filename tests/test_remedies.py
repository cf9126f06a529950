"""Every remedy that the package tells: what it names must be there, for who has typed a command and for who has
called a function."""

import ast
import importlib
import inspect
import json
import re
from functools import cache
from pathlib import Path

import pytest

from dans.paper.manifest import load_manifest
from dans.paper.parameters import image_options, parameters_of
from dans.paper.reproduce import _parser

ROOT = Path(__file__).parent.parent
PATHS = sorted(p for p in (ROOT / "dans").rglob("*.py") if not p.stem.startswith("_"))
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in PATHS}  # dans.cost.boards: its path
FOREIGN = {"--head", "--data_dir", "KERAS_BACKEND"}  # of Ray, tfds and Keras
HOLE = "…"  # what an f-string fills in


def flat(node):
    "The text of an expression, as far as it stands in the code; all branches of it."
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(flat, node.values))
    if isinstance(node, ast.FormattedValue):
        return flat(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return flat(node.left) + flat(node.right)
    if isinstance(node, ast.IfExp):
        return flat(node.body) + " " + flat(node.orelse)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "option" and isinstance(node.args[0], ast.Constant):
        return f"{node.args[0].value}=1 (on the command line: -p source.{node.args[0].value}=1)"
    return HOLE


def errors(tree):
    "Names of `DansError` and of what derives from it."
    made = {"DansError", "Diverged"}
    return made | {
        n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and {ast.unparse(b) for b in n.bases} & made
    }


def remedies(source):
    "(line, text) of the remedies in Python code."
    tree = ast.parse(source)
    made = errors(tree)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func).split(".")[-1] in made]
    return [(n.lineno, flat(n.args[1])) for n in calls if len(n.args) > 1]


@cache
def told():
    "(place, text) of all remedies of the package and of the paper's notebooks."
    found = [
        (f"{p.relative_to(ROOT)}:{line}", text) for p in PATHS for line, text in remedies(p.read_text(encoding="utf-8"))
    ]
    for path in sorted((ROOT / "nbs/paper").glob("*.ipynb")):
        cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
        found += [(path.name, text) for c in cells for _, text in remedies("".join(c["source"]))]
    return found


@cache
def symbols():
    "Names of all functions, classes, methods, fields and constants, and of all parameters, in the package."
    names, keywords = set(), set()
    for path in PATHS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            if isinstance(node, ast.arg):
                keywords.add(node.arg)
            if isinstance(node, ast.ClassDef):  # fields of dataclasses
                keywords |= {s.target.id for s in node.body if isinstance(s, ast.AnnAssign)}
    return names, keywords


@cache
def variables():
    "Environment variables that the code reads."
    code = "\n".join(p.read_text(encoding="utf-8") for p in PATHS)
    return set(re.findall(r"""environ(?:\.get\(|\[|\.pop\()\s*["']([A-Z_]+)["']""", code)) | FOREIGN


@cache
def options():
    "Options of all commands, and of papermill."
    import papermill.cli

    import dans.board.export
    import dans.front.command

    ours = {o for each in (_parser(), dans.front.command._parser()) for a in each._actions for o in a.option_strings}
    theirs = {o for p in papermill.cli.papermill.params for o in (*p.opts, *p.secondary_opts)}
    return (
        ours | theirs | set(re.findall(r"""["'](--[a-z][a-z-]*)["']""", inspect.getsource(dans.board.export))) | FOREIGN
    )


@cache
def known_parameters():
    return {name for item in load_manifest(ROOT / "paper.yml").values() for name in parameters_of(ROOT / item.notebook)}


def leads_to(name):
    "Is `name`, like dans.cost.boards.Device, there?"
    module = max((m for m in MODULES if f"{name}.".startswith(f"{m}.")), key=len, default=None)
    if module is None:
        return False
    found = importlib.import_module(module)
    for part in name.removeprefix(module).split(".")[1:]:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def missing(text):
    "What `text` names that is not there."
    names, keywords = symbols()
    makefile, settings = ((ROOT / f).read_text(encoding="utf-8") for f in ("Makefile", "settings.ini"))
    lost = []
    for name in re.findall(r"-p ([a-z_.]+)=", text):
        first, _, key = name.partition(".")
        lost += [f"-p {name}="] * (
            key not in image_options() if first == "source" and key else name not in known_parameters()
        )
    for name in re.findall(r"papermill: -[pry] '?([a-z_]+)", text):
        lost += [f"papermill: {name}"] * (name not in known_parameters())
    lost += [o for o in re.findall(r"(?<![\w-])--[a-z][a-z_-]*", text) if o not in options()]
    lost += [v for v in re.findall(r"\b(?:DANS|KERAS|TF|MPL|RAY)_[A-Z_]+\b", text) if v not in variables()]
    lost += [
        f"make {t}"
        for t in re.findall(r"\bmake ([a-z-]+)(?= [A-Z]+=|`)", text)
        if not re.search(rf"^{t}:", makefile, re.M)
    ]
    lost += [
        v for v in re.findall(r"(?<!-p )(?<!\.)\b([A-Z]{3,})=", text) if not re.search(rf"^{v} +\?=", makefile, re.M)
    ]
    lost += [d for d in re.findall(r"\bdans\.[a-z_]+(?:\.\w+)*", text) if not leads_to(d)]
    lost += [c for c in re.findall(r"\bdans-[a-z]+\b", text) if not re.search(rf"\b{c} *=", settings)]
    lost += [
        f"dans[{e}]"
        for e in re.findall(r"dans\[([a-z-]+)\]", text)
        if not re.search(rf"^{e}_requirements", settings, re.M)
    ]
    lost += [b for b in re.findall(r"`([A-Za-z_]\w*)`", text) if b not in names | keywords]
    plain = re.sub(r"-p \S+|--\S+|ray:\S+|'[^']*'", "", text)
    for name in re.findall(r"(?<![\w.…-])([a-z_][a-z_0-9]*)=", plain):
        lost += [f"{name}="] * (name not in keywords | known_parameters())
        lost += [f"{name}= alone, which no command takes: say -p source.{name}= too"] * (
            name in image_options() and name not in ("seed",) and f"-p source.{name}=" not in text
        )
    return lost


def test_there_are_remedies_and_all_that_they_name_is_there():
    assert len(told()) > 150
    lost = [f"{place}: {name} ({text})" for place, text in told() for name in missing(text)]
    assert not lost, "\n" + "\n".join(lost)


@pytest.mark.parametrize(
    "text, names",
    [
        ("pass shrink=True", "shrink="),
        ("pass upscale=True", "upscale= alone"),
        ("say -p imagse=10", "-p imagse="),
        ("say -p source.imag=img", "-p source.imag="),
        ("papermill: -p presett smoke", "papermill: presett"),
        ("name it: --borad NAME", "--borad"),
        ("set the variable DANS_PHOTO", "DANS_PHOTO"),
        ("make reproduec PRESET=cpu", "make reproduec"),
        ("make reproduce PRESTE=cpu", "PRESTE"),
        ("use `dans.board.quantise.quantize`", "dans.board.quantise.quantize"),
        ("use dans.bords.Device", "dans.bords.Device"),
        ("call `quantize`", "quantize"),
        ("run dans-repruduce", "dans-repruduce"),
        ("pip install 'dans[rya]'", "dans[rya]"),
    ],
)
def test_an_invented_remedy_is_caught(text, names):
    assert any(lost.startswith(names) for lost in missing(text)), missing(text)


def test_remedies_of_all_forms_are_collected():
    code = (
        "class Mine(DansError): pass\n"
        'raise DansError(f"a {b}", f"use {c}=" + ("x" if d else f"y {option(\'fit\', 1)}"))\n'
        'raise space.DansError("a", "b")\nraise Mine("a", "c")'
    )
    assert remedies(code) == [(2, "use …=x y fit=1 (on the command line: -p source.fit=1)"), (3, "b"), (4, "c")]


@pytest.mark.parametrize(
    "text",
    [
        "-p data=FOLDER (papermill: -r data FOLDER)",
        "make reproduce PRESET=cpu ONLY=fig_time",
        "set DANS_PHOTOS",
        "fit='squash' (on the command line: -p source.fit=squash)",
        "see dans.cost.boards.Device",
        "--device NAME",
    ],
)
def test_a_right_remedy_passes(text):
    assert missing(text) == []
