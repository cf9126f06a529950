"Chromium as tests drive it: Debian's, without a network, and with an ear for all that goes wrong on a page."

import shutil
from contextlib import contextmanager

from conftest import BROWSERS
from playwright.sync_api import sync_playwright


@contextmanager
def chromium():
    "A browser of this machine."
    program = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Heard:
    "What a page asks for, and what goes wrong there."

    def __init__(self, page):
        self.asked, self.wrong = [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfailed", self.failed)
        page.on("console", self.said)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def said(self, message):
        "Errors that a page writes to its console."
        if message.type == "error":
            self.wrong.append(f"{message.text} {message.location.get('url', '')}")

    def failed(self, request):
        "Noted, unless the page was left before all of it was there."
        if "ERR_ABORTED" not in request.failure:
            self.wrong.append(f"{request.url}: {request.failure}")
