#!/usr/bin/env python3
"""Take the picture of the page: a question on a laptop in light colours, and on a phone in dark colours.

clsr serve --index demo-index --port 7861 &
tools/page_picture.py http://127.0.0.1:7861/ "what did mothers tell children who would not sleep?" docs/guides/serve.png

Needs playwright and a Chromium (apt-get install chromium).
"""

import argparse
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LAPTOP, PHONE = {"width": 1000, "height": 760}, {"width": 390, "height": 760}
GAP = 20  # pixels between the two, white
COLOURS = 128  # of the picture, which has few


def photograph(browser: Any, url: str, question: str, viewport: dict[str, int], scheme: str) -> bytes:
    """The page as PNG, once it shows the hits of a question; a phone is scrolled down to them."""
    page = browser.new_page(viewport=viewport, color_scheme=scheme)
    page.goto(url)
    for _ in range(2):  # the first search of a server loads its model; the picture shows how long another takes
        page.fill("#question textarea", question)
        page.press("#question textarea", "Enter")
        page.wait_for_selector(".hit")
        page.wait_for_timeout(2000)
    page.wait_for_function("document.querySelector('.hit audio').readyState >= 1")
    page.mouse.click(0, 0)  # so that no cursor stands in the question
    if viewport is PHONE:
        page.evaluate("window.scrollTo(0, document.querySelector('.hit').getBoundingClientRect().top - 82)")
    page.wait_for_timeout(1000)
    return page.screenshot()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a running clsr serve")
    parser.add_argument("question")
    parser.add_argument("output", type=Path, help="PNG file")
    options = parser.parse_args(arguments)

    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        views = [
            photograph(browser, options.url, options.question, viewport, scheme)
            for viewport, scheme in ((LAPTOP, "light"), (PHONE, "dark"))
        ]
        browser.close()
    left, right = (Image.open(io.BytesIO(view)).convert("RGB") for view in views)
    picture = Image.new("RGB", (left.width + GAP + right.width, left.height), "white")
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width + GAP, 0))
    picture.quantize(COLOURS).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
