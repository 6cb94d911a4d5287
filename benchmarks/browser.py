"""A real browser without a window, if one is installed."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common import WebDriverException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import WebDriverWait


class Browser:
    """Headless Chromium with one page in it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.run = driver.execute_script
        self.screen(1280, 800)

    def screen(self, width: int, height: int, density: float = 1, dark: bool = False) -> None:
        """Set the window's size in CSS pixels, the screen's pixels per CSS pixel, and which theme its user likes."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": density, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})

    def open(self, page: Path | str) -> None:
        """Open a page as if for the first time, and clear the console."""
        self.driver.get("about:blank")  # the same page again would be a refresh
        self.said()
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def wait(self, script: str, seconds: float = 10) -> None:
        """Wait until a JavaScript expression is true."""
        WebDriverWait(self.driver, seconds, 0.05).until(lambda _: self.run(f"return {script}"), script)

    def press(self, *keys: str) -> None:
        """Press keys, by their names in JavaScript or selenium's `Keys`, wherever the focus is."""
        ActionChains(self.driver).send_keys(*(getattr(Keys, key, key) for key in keys)).perform()

    def click(self, element: Any, right_of_centre: int) -> None:
        """Click a number of CSS pixels to the right of an element's centre."""
        ActionChains(self.driver).move_to_element_with_offset(element, right_of_centre, 0).click().perform()

    def said(self) -> list[str]:
        """Return what has appeared in the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def screenshot(self, path: Path) -> None:
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
        path.write_bytes(base64.b64decode(picture))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser, and stop it afterwards.

    Raises:
        LookupError: there is none; it says why.
    """
    program, server = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or server is None:
        raise LookupError("there is no chromium with its chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(server))
    except WebDriverException as error:
        raise LookupError(f"chromium does not start: {error.msg}") from None
    try:
        yield Browser(driver)
    finally:
        driver.quit()
