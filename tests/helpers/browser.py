"""Headless Chromium for the tests of pages; a test is skipped, with the reason, where there is none."""

import shutil
from contextlib import contextmanager

import pytest


@contextmanager
def open_browser(profile, *flags):
    """Yield a Chromium with its profile in the folder `profile` and further command-line flags."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary, driver_path = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (binary and driver_path):
        pytest.skip("chromium and chromedriver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
        f"--user-data-dir={profile}", "--window-size=1280,900", *flags,
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(driver_path))
    try:
        yield driver
    finally:
        driver.quit()
