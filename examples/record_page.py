"""Takes the picture of the page that the README shows: `python examples/record_page.py`.

Needs `make demo`, and a Chromium. Serves the index of the demo's clips and searches it.
"""

import io
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / "demo" / "index-clips"
PICTURE = ROOT / "docs" / "page.webp"
QUERY = "a cat, without people"
_START_SECONDS = 60
_LOADED_MILLISECONDS = 3000


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not INDEX.is_dir():
        sys.exit("needs chromium or google-chrome, and the index that `make demo` makes")
    service = subprocess.Popen(
        [sys.executable, "-m", "serving", f"index={INDEX}", "port=0"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert service.stderr is not None
        url = next(line for line in service.stderr if line.startswith("open http")).split()[1]
        for line in service.stderr:
            if '"message": "ready"' in line:
                break
        urllib.request.urlopen(f"{url}readyz", timeout=_START_SECONDS).close()
        shot = screenshot(f"{url}?q={QUERY.replace(' ', '+')}", chromium)
    finally:
        service.terminate()
        service.wait()
    Image.open(io.BytesIO(shot)).save(PICTURE, quality=80)
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1024} KiB")


def screenshot(url: str, chromium: str) -> bytes:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(url)
        page.wait_for_timeout(_LOADED_MILLISECONDS)
        return page.screenshot()


if __name__ == "__main__":
    main()
