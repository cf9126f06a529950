"The site in _docs/, opened from a disk: every page by its text, every page on a phone, one of each kind by axe-core."

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from browser import Heard, chromium

ROOT = Path(__file__).parent.parent
SITE = ROOT / "_docs"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if path.name != "404.html")
pytestmark = [pytest.mark.browser, pytest.mark.site]
# Prose and a picture, all results, a room with pandas' tables, with formulas, a table, a guide with a script.
KINDS = ["index", "results", "2_cost/35_boards", "3_net/40_metrics", "paper/tab_rank", "tutorials/explore"]
# axe-core: what hinders somebody, and headings; the rest is the theme's (landmarks of its buttons that copy).
HINDERS = {"critical", "serious"}
HEADINGS = {"heading-order", "page-has-heading-one", "empty-heading", "image-alt"}


class Read(HTMLParser):
    "What a page links to, shows, and is called."

    def __init__(self, path):
        super().__init__()
        self.links, self.pictures, self.ids, self.headings = [], [], [], []
        self.feed((SITE / path).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.ids += [of["id"]] if of.get("id") else []
        if tag in ("a", "link", "script") and (of.get("href") or of.get("src")) and of.get("rel") != "canonical":
            self.links.append((tag, of.get("href") or of["src"]))
        if tag == "img":
            self.pictures.append((of.get("src"), of.get("alt")))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


@pytest.fixture(scope="module")
def read():
    return {path: Read(path) for path in PAGES}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def opened(browser, width=1280, scheme="light"):
    "A page that is ready to be sent somewhere, and what is heard of it."
    page = browser.new_context(color_scheme=scheme, viewport=dict(width=width, height=900)).new_page()
    return page, Heard(page)


def test_every_notebook_has_its_page_and_every_page_its_place_among_the_others(read):
    made = {
        path.relative_to(ROOT / "nbs").with_suffix(".html").as_posix() for path in (ROOT / "nbs").rglob("[!.]*.ipynb")
    }
    made = {path for path in made if ".ipynb_checkpoints" not in path}
    assert set(PAGES) == {*made, "results.html"}
    for path in PAGES:
        text = (SITE / path).read_text(encoding="utf-8")
        assert 'class="md-nav__link md-nav__link--active"' in text, f"{path} is not in the navigation"
        assert path == "results.html" or f"/blob/main/nbs/{path[:-5]}.ipynb" in text


def test_no_link_is_dead_and_no_picture_is_missing_or_without_words(read):
    dead = []
    for path, page in read.items():
        repeated = [name for name, n in Counter(page.ids).items() if n > 1 and not name.startswith("__")]
        dead += [f"{path}: twice #{name}" for name in repeated if f"#{name}" in str(page.links)]
        for target in [link for _, link in page.links] + [source for source, _ in page.pictures]:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            file = ((SITE / path).parent / unquote(parts.path)).resolve() if parts.path else (SITE / path).resolve()
            name = file.relative_to(SITE).as_posix() if file.is_relative_to(SITE) else ""
            if not file.is_file():
                dead.append(f"{path}: {target}")
            elif parts.fragment and name in read and unquote(parts.fragment) not in read[name].ids:
                dead.append(f"{path}: no #{parts.fragment} in {name}")
        dead += [f"{path}: no words for {source}" for source, alt in page.pictures if len((alt or "").split()) < 1]
    assert not dead, "\n".join(dead)


def test_nothing_is_fetched_from_elsewhere(read):
    for path, page in read.items():
        away = [target for tag, target in page.links if tag != "a" and urlsplit(target).scheme]
        assert not away and not [source for source, _ in page.pictures if urlsplit(source).scheme == "https"], path


def test_headings_go_down_one_step_at_a_time(read):
    for path, page in read.items():
        steps = [low - high for high, low in zip(page.headings, page.headings[1:])]
        assert page.headings[0] == 1 and page.headings.count(1) == 1 and max(steps, default=0) <= 1, path


def test_every_page_fits_a_phone_and_nothing_goes_wrong_on_it(browser):
    page, heard = opened(browser, width=390)
    wide, hidden = {}, []
    for path in PAGES:
        page.goto((SITE / path).as_uri(), wait_until="load")
        width = page.evaluate("document.documentElement.scrollWidth")
        missing = page.evaluate("[...document.images].filter(one => one.complete && !one.naturalWidth).length")
        if width > 390:
            wide[path] = width
        hidden += [path] * bool(missing)
    assert not wide and not hidden and not heard.wrong
    assert all(url.startswith(("file:", "data:", "blob:")) for url in heard.asked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_hinders(browser, scheme):
    page, _ = opened(browser, scheme=scheme)
    only = dict(preload=False) | ({"runOnly": ["color-contrast", "link-in-text-block"]} if scheme == "dark" else {})
    for kind in KINDS:
        page.goto((SITE / f"{kind}.html").as_uri())
        assert page.locator("body").get_attribute("data-md-color-scheme") == dict(light="default", dark="slate")[scheme]
        found = Axe().run(page, options=only).response["violations"]
        found = [v for v in found if v["impact"] in HINDERS or v["id"] in HEADINGS]
        assert not found, [(kind, v["id"], v["help"], [node["html"][:200] for node in v["nodes"][:3]]) for v in found]


def test_the_toggle_changes_the_colours_and_the_search_finds_from_a_disk(browser):
    page, heard = opened(browser)
    page.goto((SITE / "index.html").as_uri())
    page.locator("label.md-header__button[for=__palette_1]").click()
    assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
    page.get_by_role("textbox", name="Search").fill("arena")
    first = page.locator(".md-search-result__item a").first
    first.wait_for(timeout=60_000)
    assert "arena" in page.locator(".md-search-result__list").inner_text().lower()
    first.click()
    page.wait_for_load_state()
    assert page.url.startswith(SITE.as_uri()) and "index.html" not in page.url.split("?")[0] and not heard.wrong


def test_the_page_of_results_has_everything_that_is_drawn():
    items = yaml.safe_load((ROOT / "paper.yml").read_text(encoding="utf-8"))["items"]
    text = (SITE / "results.html").read_text(encoding="utf-8")
    for id, item in items.items():
        if id.startswith("run"):
            continue
        part = text.partition(f'id="{id}"')[2].partition("<h3")[0]
        assert item["title"].split("'")[0] in part and f"paper/{Path(item['notebook']).stem}.html" in part, id
        drawn = (ROOT / f"figures/{id}.json").is_file()
        assert ("Not drawn yet" in part) != drawn, id
        if drawn:
            assert f"make figures ONLY={id}" in part and f'href="figures/{id}.csv"' in part, id
            assert f'href="figures/{id}.json"' in part and re.search(r"/blob/\w+/" + item["notebook"], part), id
