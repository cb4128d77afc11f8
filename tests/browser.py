"""A real browser for pages: what it says on its console, and whether anything overflows."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
MEASURE = """<!doctype html><body data-width="">
<iframe id="page" width="{width}" height="4000" style="border: 0" srcdoc="{page}"></iframe>
<script>
document.getElementById("page").onload = event => {{
  const root = event.target.contentDocument.documentElement;
  const images = [...root.querySelectorAll("img")];
  const wide = [...root.querySelectorAll("*")].filter(
    e => e.getBoundingClientRect().right > {width} + 1).map(e => e.tagName);
  document.body.dataset.width = root.scrollWidth;
  document.body.dataset.wide = wide.join(" ");
  document.body.dataset.drawn = images.filter(i => i.complete && i.naturalWidth).length;
  document.body.dataset.text = root.innerText.length;
  root.remove();
}};
</script>"""


def chromium() -> str:
    """Return the browser; the test is skipped where there is none."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    pytest.skip("needs Chromium (`make services` installs it)")


def console_of(page: Path) -> list[str]:
    """Return what a page writes to the console when it is opened."""
    done = _run("--enable-logging=stderr", "--dump-dom", page.resolve().as_uri())
    return re.findall(r"CONSOLE.*", done.stderr)


def measured(page: Path, width: int, scratch: Path) -> dict[str, str]:
    """Return how a page stands in a window of a width: `width` it takes, what is `wide`, …"""
    probe = scratch / "probe.html"
    probe.write_text(MEASURE.format(width=width, page=html.escape(page.read_text("utf-8"))))
    done = _run("--dump-dom", "--virtual-time-budget=10000", probe.resolve().as_uri())
    [body] = re.findall(r"<body[^>]*>", done.stdout)
    return dict(re.findall(r'data-(\w+)="([^"]*)"', body))


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    return subprocess.run(
        [chromium(), *options, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
