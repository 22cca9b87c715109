"""Takes the README's pictures from the running web UI, in a headless browser, and fails when a page shows an error.

Run `make ui` in one shell and `make screenshots` in another. Needs Chromium: on Debian and Ubuntu,
`apt-get install chromium`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from ml_assets import keys

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
TROUBLE = (
    "An unexpected error occurred",
    "Error loading",
    "Something went wrong",
    "could not be found",
    "doesn't exist",
)
SECONDS = 60


class PictureError(RuntimeError):
    """The browser is missing, the UI does not answer, or a page shows an error."""


@dataclass(frozen=True)
class Picture:
    """One page (a path of the web UI, or a file's URI): what must be readable on it first, and what must not."""

    file: str
    path: str
    awaited: Sequence[str]
    refused: Sequence[str] = ()
    width: int = 1600
    height: int = 1000
    click: str = ""  # a text to click on before the picture is taken
    zoom_out: int = 0  # turns of the mouse wheel over the middle of the page


def pictures(asset: str) -> list[Picture]:
    """Return the asset graph of one problem with all groups open, its evaluation report as the file that is sent, and its timeline."""
    groups = ",".join(f"global@global:{group}" for group in keys.GROUPS)
    problem, _, name = asset.partition("/")
    watched = " or ".join(f'+key:"{problem}/{part}"' for part in ("retrain_decision", "kpi_report", "model_card"))
    return [
        Picture(
            "asset_graph.png",
            f"/asset-groups~{quote(watched, safe='')}?{urlencode({'expanded': groups})}",
            [name],
            width=2400,
            height=1500,
            zoom_out=2,
        ),
        Picture(
            "report.png",
            (ROOT / "data" / "reports" / problem / f"{name}.html").as_uri(),
            [problem, "Gates", "Metrics"],
            width=1100,
            height=1800,
        ),
        Picture(
            "timeline.png",
            (ROOT / "data" / "reports" / problem / "timeline.html").as_uri(),
            [f"{problem} over time", "In pictures"],
            width=1100,
            height=1780,
        ),
    ]


def browser_path() -> str:
    """Return the system's Chromium; Playwright's own cannot be downloaded on a closed network."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        raise PictureError(f"no browser among {', '.join(BROWSERS)}; on Debian and Ubuntu: apt-get install chromium")
    return found


@contextmanager
def opened(picture: Picture) -> Iterator[tuple[Page, list[str]]]:
    """Yield a page of the picture's size, and the list to which its errors are added."""
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": picture.width, "height": picture.height})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("response", lambda response: errors.extend(answer_errors(response)))
        try:
            yield page, errors
        finally:
            browser.close()


def answer_errors(response: Response) -> list[str]:
    """Return what a GraphQL answer complains about."""
    if not response.url.endswith("/graphql") and "/graphql?" not in response.url:
        return []
    if not response.ok:
        return [f"{response.url} answered {response.status}"]
    return [str(error.get("message")) for error in json.loads(response.text()).get("errors") or []]


def touch(page: Page, picture: Picture) -> None:
    """Do what the picture needs: open a dialog, make the graph smaller."""
    if picture.click:
        page.get_by_text(picture.click).first.click()
        page.wait_for_timeout(2000)
    for _ in range(picture.zoom_out):
        page.mouse.move(picture.width / 2, picture.height / 2)
        page.keyboard.down("Control")  # without it, the wheel moves the graph
        page.mouse.wheel(0, 60)
        page.keyboard.up("Control")
        page.wait_for_timeout(500)


def take(picture: Picture, url: str, folder: Path) -> Path:
    """Take one picture; `PictureError` when the page does not come up or shows an error."""
    from playwright.sync_api import Error

    with opened(picture) as (page, errors):
        try:
            page.goto(picture.path if "://" in picture.path else url + picture.path, timeout=SECONDS * 1000)
            for text in picture.awaited:
                page.get_by_text(text, exact=False).first.wait_for(timeout=SECONDS * 1000)
            page.wait_for_timeout(3000)  # the graph is laid out and moves into place
            touch(page, picture)
            page.wait_for_function("!document.body.innerText.includes('Loading')", timeout=SECONDS * 1000)
            text = page.inner_text("body")
        except Error as error:
            raise PictureError(
                f"{url}{picture.path}: {error.message.splitlines()[0]}; is the UI running (make ui)?"
            ) from error
        errors += [phrase for phrase in (*TROUBLE, *picture.refused) if phrase in text]
        if errors:
            raise PictureError(f"{url}{picture.path} shows: {'; '.join(errors)}")
        target = folder / picture.file
        page.screenshot(path=target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Take all pictures; 0, or 1 with a message on standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="of the running UI (default %(default)s)")
    parser.add_argument(
        "--asset", default="flight_delay/evaluation_report", help="shown in report.png (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        for picture in pictures(given.asset):
            print(take(picture, given.url, given.out))
    except PictureError as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
