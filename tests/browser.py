"""A headless Chromium of a chosen width (Debian's `chromium` and `chromium-driver`)."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium import webdriver

from tests import needs


@contextmanager
def browser(width: int, height: int = 800) -> Iterator[Any]:
    """Start a browser whose pages are `width` CSS pixels wide, as on a phone of that width.

    Args:
        width: of the viewport, in CSS pixels.
        height: likewise.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    needs.unless(bool(chromium and driver), "chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium or ""
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.getuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Selenium's own manager would look for a driver on the network.
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        made.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield made
    finally:
        made.quit()
