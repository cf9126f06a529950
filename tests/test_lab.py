"JupyterLab as a reader uses it: in Chromium, by its menu, in light and dark, on a copy of the checkout."

import os
import shutil
import socket
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from browser import Heard, chromium
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.browser
NOTEBOOKS = ["nbs/index.ipynb", "nbs/2_cost/32_limits.ipynb", "nbs/paper/fig_limits.ipynb"]
SETTINGS = {  # colours are those of the system, and nothing is asked of the network
    "apputils-extension/themes": '{"adaptive-theme": true}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
IDLE = "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status == 'idle'"
CELLS = "jupyterapp.shell.currentWidget.content.model.sharedModel.cells.filter(c => c.cell_type == 'code')"
OUTPUTS = f"{CELLS}.flatMap(c => c.toJSON().outputs)"
DONE = f"{CELLS}.every(c => c.execution_count) || {OUTPUTS}.some(o => o.output_type == 'error')"


def hashes(folder):
    "Every file of committed rows and figures."
    paths = [path for name in ("results", "figures") for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder): sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    "What a clone has, without its history."
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("dans", "nbs", "results", "figures"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("paper.yml", "settings.ini", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def lab(checkout, tmp_path_factory):
    "The address of a JupyterLab that was started as `make lab` does."
    home = tmp_path_factory.mktemp("home")
    for name, text in SETTINGS.items():
        path = home / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = dict(HOME=home, JUPYTER_CONFIG_DIR=home, JUPYTER_RUNTIME_DIR=home, IPYTHONDIR=home, PYTHONPATH=checkout)
    own |= dict(JUPYTERLAB_SETTINGS_DIR=home / "settings", JUPYTERLAB_WORKSPACES_DIR=home / "workspaces")
    options = ["--ServerApp.root_dir=.", "--no-browser", f"--port={port}", "--allow-root", "--IdentityProvider.token="]
    options += ["--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    variables = {**os.environ, **{name: str(value) for name, value in own.items()}}
    with open(home / "log", "wb") as log:
        server = subprocess.Popen(command, cwd=checkout, env=variables, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                urlopen(f"http://127.0.0.1:{port}/api", timeout=2).close()
                break
            except (URLError, OSError):
                assert server.poll() is None, (home / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def run_all(page, url, path):
    "Opens a notebook, clears it, and chooses Run All Cells."
    page.goto(f"{url}/lab/tree/{path}?reset")
    page.locator(".jp-Notebook").first.wait_for(timeout=120_000)
    page.wait_for_function(
        "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status == 'idle'", timeout=60_000
    )
    page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    assert not page.evaluate(f"{CELLS}.some(c => c.execution_count)")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def outputs_of(page):
    "All that the cells show in the end."
    page.wait_for_function(f"({DONE}) && {IDLE}", timeout=120_000)
    return page.evaluate(OUTPUTS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_run_all_finds_no_error_and_touches_nothing_that_is_committed(lab, checkout, browser, scheme):
    page = browser.new_context(color_scheme=scheme, viewport=dict(width=1400, height=900)).new_page()
    heard, before = Heard(page), hashes(checkout)
    for path in NOTEBOOKS:
        run_all(page, lab, path)
        outputs = outputs_of(page)
        wrong = [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
        assert outputs and not wrong, (path, wrong)
        assert page.evaluate("document.body.dataset.jpThemeLight") == str(scheme == "light").lower()
        missing = "[...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src)"
        assert not page.evaluate(missing), path
        page.screenshot(path=os.environ.get("DANS_SHOTS", str(checkout / "runs")) + f"/{Path(path).stem}-{scheme}.png")
    assert all(url.startswith((lab, "data:", "blob:", lab.replace("http", "ws"))) for url in heard.asked), heard.asked
    assert hashes(checkout) == before
    assert (checkout / "runs/cpu/figures/fig_limits.png").is_file(), "what is drawn by hand goes to runs/"
    assert not heard.wrong, heard.wrong


BARS = """
from time import sleep
from dans.house import progress_bar
for _ in range(2):
    for _ in progress_bar(range(4), desc="pieces"):
        for _ in progress_bar(range(10), desc="steps"):
            sleep(0.05)
"""


def test_bars_are_widgets_in_one_box_and_nothing_stays_behind(lab, checkout, browser):
    kernel = dict(kernelspec=dict(name="python3", display_name="Python 3", language="python"))
    nbformat.write(new_notebook(cells=[new_code_cell(BARS)], metadata=kernel), checkout / "bars.ipynb")
    page = browser.new_context().new_page()
    run_all(page, lab, "bars.ipynb")
    bars = page.locator(".jp-OutputArea .widget-vbox .widget-hbox")
    bars.nth(1).wait_for(timeout=60_000)
    assert bars.first.inner_text().startswith("pieces") and page.locator(".jp-OutputArea .widget-vbox").count() == 1
    (shown,) = outputs_of(page)
    assert shown["data"] == {"text/plain": ""}, "what is saved"
    assert bars.count() == 0
