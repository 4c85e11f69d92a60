"""Headless Chromium for tests of the explorer, driven by Playwright, without a network.

Chromium comes from this machine, from Debian if the tests run as root, or from Playwright's own download.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@functools.cache
def chromium() -> str | None:
    """Path of a Chromium, installed if possible; or None."""

    def installed() -> str | None:
        return next(filter(None, map(shutil.which, NAMES)), None)

    if installed() is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], capture_output=True, check=False)
    if installed() is None:
        from playwright.sync_api import sync_playwright

        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], capture_output=True, check=False)
        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
        return path if Path(path).exists() else None
    return installed()


class Page:
    """A page of the explorer in a browser that cannot reach a network."""

    def __init__(self, context, path: Path, fragment: str = "", address: str = "") -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.tab = context.new_page()
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.tab.on("dialog", lambda dialog: (self.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto((address or path.as_uri()) + fragment)
        self.tab.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)

    def run(self, code: str, argument=None):
        """Evaluate JavaScript in the page; `explorer` is its state."""
        return self.tab.evaluate(code, argument)

    def settle(self) -> None:
        """Wait until every view has followed the state."""
        self.tab.wait_for_timeout(250)
        self.run("() => new Promise((done) => requestIdleCallback(done, { timeout: 5000 }))")

    def pixels(self, selector: str) -> list[list[int]]:
        """Red values of the pixels of each canvas that matches, at their own size."""
        return self.run(
            """(selector) => Array.from(document.querySelectorAll(selector), (canvas) => {
              const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              return Array.from(data.filter((_, i) => i % 4 === 0));
            })""",
            selector,
        )
