"""The page of a run, in a real browser; skipped where none can be had."""

import functools
import http.server
import json
import os
import shlex
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from tests.commands import PROJECT, run_here
from utils.run.page import render, spans

pytest.importorskip("selenium", reason="no browser: selenium is not installed")
from benchmarks.browser import Browser, chromium

pytestmark = pytest.mark.slow

PICTURES = "index_files"
HEIGHT, WIDTH = 12, 8
FACTORS, RANGES = (2.0, 2.5, 16.0), (0, 3)
AXE = PROJECT / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE = [
    "</script><script>window.hacked=1</script>",
    "<!--<script>",
    '"><img src=x onerror=window.hacked=1>',
    "' onload='window.hacked=1",
    "javascript:window.hacked=1",
    "a & b; 100% #1 ?x=y \\ \u2028",
    "new\nline",
    "not \udcff utf-8",
    "../up",
    "x" * 200,
    "{{script}} ${hacked}",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as browser:
            yield browser
    except LookupError as missing:
        pytest.skip(f"no browser: {missing}")


def page(names: list[str], n_samples: int, factors=FACTORS, ranges=RANGES, **changes) -> dict[str, Any]:
    """The data of a page of a sweep, all of whose images are made."""
    several = len(factors) > 1, len(ranges) > 1
    bindings = [
        {
            "factor": n,
            "range": b,
            "folder": "/".join([f"N{n:g}"] * several[0] + [f"range{b}"] * several[1]),
            "binds": f"{PICTURES}/N{n:g}",
            "made": spans(range(n_samples)),
            "film": False,
        }
        for n in factors
        for b in ranges
    ]
    folders = (PICTURES, *(f"{PICTURES}/N{n:g}" for n in factors))
    return {
        "size": (HEIGHT, WIDTH),
        "references": [
            {"name": name, "stem": quote(os.fsencode(name), safe=""), "label": f"{name}.jpg"} for name in names
        ],
        "stride": len(names),
        "samples": n_samples,
        "bindings": bindings,
        "classes": [],
        "folder": PICTURES,
        "pictures": {folder: spans(range(len(names))) for folder in folders},
        "film": None,
        "about": "a model, seed 7",
        "settings": [["seed", "7"], ["sampler", "DDPM"]],
        "command": "python sample_ilvr.py --seed 7",
        "running": False,
    } | changes


def write(folder: Path, page: dict[str, Any]) -> Path:
    """The page, and a picture for whatever it says is there."""
    picture = folder / "picture"
    Image.new("RGB", (WIDTH, HEIGHT), "teal").save(picture, "PNG")
    names = [reference["name"] for reference in page["references"]]
    files = [
        Path(one["folder"]) / f"{names[number % page['stride']]}_{number // page['stride']}.png"
        for one in page["bindings"]
        for first, end in one["made"]
        for number in range(first, end)
    ]
    files += [
        Path(place) / f"{name}.png"
        for place, indices in page["pictures"].items()
        for first, end in indices
        for name in names[first:end]
    ]
    for parent in {path.parent for path in files}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for path in files:
        if not (folder / path).exists():
            os.link(picture, folder / path)
    (folder / "index.html").write_text(render(page), encoding="utf-8")
    return folder / "index.html"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """The page of two references with three samples each, for three factors and two ranges."""
    return write(tmp_path_factory.mktemp("sweep"), page(["anna", "bert"], 5))


def sources(browser: Browser, selector: str = ".samples img") -> list[str]:
    return [image.get_attribute("src").partition("sweep0/")[2] for image in browser.all(selector)]


def slide(browser: Browser, name: str, *keys: str) -> None:
    browser.run("arguments[0].focus()", browser.one(f"#controls input[aria-label^='{name}']"))
    browser.press(*keys)


def test_sliders_change_all_images_at_once(browser, sweep):
    browser.open(sweep)
    assert sources(browser) == [f"N2/range0/{name}.png" for name in ("anna_0", "anna_1", "anna_2", "bert_0", "bert_1")]
    slide(browser, "Downsample", "ARROW_RIGHT")
    slide(browser, "Last steps", "END")
    assert {source.rpartition("/")[0] for source in sources(browser)} == {"N2.5/range3"}
    given = ["index_files/anna.png", "index_files/N2.5/anna.png", "index_files/bert.png", "index_files/N2.5/bert.png"]
    assert sources(browser, ".given img") == given
    assert browser.one("#controls output").text == "N = 2.5"
    browser.wait("[...document.images].filter(i => i.src).every(i => i.complete && i.naturalWidth == 8)")

    browser.driver.refresh()  # as the page itself does while a run goes on
    assert {source.rpartition("/")[0] for source in sources(browser)} == {"N2.5/range3"}
    assert browser.said() == []


def test_an_image_is_enlarged_beside_its_reference_at_a_whole_multiple(browser, sweep):
    browser.open(sweep)
    browser.one("button.tile").click()
    for name, source in (("after", "N2/range0/anna_0.png"), ("before", "index_files/anna.png")):
        assert sources(browser, f"#{name}") == [source]
    assert sources(browser, "#alone") == ["index_files/anna.png"]
    for density, width in ((1, 1280), (1.5, 1000), (3, 360)):
        browser.screen(width, 800, density)
        browser.wait(
            "(() => { const image = document.querySelector('#after'), box = image.getBoundingClientRect();"
            f"const times = box.width * {density} / {WIDTH};"
            f"return times > 10 && Math.abs(times - Math.round(times)) < 0.01 && box.left >= 0 && box.right <= {width}"
            f" && Math.abs(box.height * {WIDTH} - box.width * {HEIGHT}) < 0.5"
            " && getComputedStyle(image).imageRendering == 'pixelated'; })()"
        )
    browser.screen(1280, 800)

    browser.run("document.querySelector('input[value=binds]').click()")
    assert sources(browser, "#before") == ["index_files/N2/anna.png"]
    browser.run("document.querySelector('input[value=reference]').click()")
    browser.press("ESCAPE")
    assert not browser.all("dialog[open]")
    assert browser.driver.switch_to.active_element.get_attribute("aria-label") == "anna.jpg, variation 0"
    assert browser.said() == []


def test_a_picture_that_is_gone_leaves_a_quiet_tile_and_a_line(browser, tmp_path):
    path = write(tmp_path, page(["anna", "bert"], 4, (8.0,), (0,)))
    browser.open(path)
    assert not browser.one("#lost").is_displayed()
    for gone in tmp_path.rglob("anna_1.png"):
        gone.unlink()
    browser.open(path)
    browser.wait("document.querySelectorAll('.lost').length == 1")
    assert browser.one("#lost").is_displayed()
    browser.said()


def test_the_divider_is_moved_by_mouse_and_keyboard(browser, sweep):
    browser.open(sweep)
    browser.one("button.tile").click()
    divider = browser.one("#divider")

    def at() -> tuple[float, str]:
        clip = browser.run("return getComputedStyle(document.querySelector('#before')).clipPath")
        return float(divider.get_attribute("value")), clip

    assert at() == (50, "inset(0px 50% 0px 0px)")
    browser.click(divider, right_of_centre=divider.size["width"] // 4)
    assert 70 < at()[0] < 80 and at()[1].startswith("inset(0px 2")
    browser.press("HOME", "ARROW_RIGHT")
    assert 0 < at()[0] < 5 and at()[1].startswith("inset(0px 9")
    assert browser.one("#caption").text.split("\n")[1] == "variation 0, N = 2, range 0"  # the arrow was the divider's
    browser.press("ESCAPE")


def test_keys_go_from_image_to_image(browser, sweep):
    def caption() -> list[str]:
        return browser.one("#caption").text.split("\n")

    browser.open(sweep)
    browser.one("button.tile").click()
    browser.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert caption() == ["anna.jpg", "variation 2, N = 2, range 0"]
    browser.press("ARROW_RIGHT", "ARROW_UP")
    assert caption() == ["bert.jpg", "variation 0, N = 2.5, range 0"]
    browser.press("ARROW_RIGHT", "ARROW_RIGHT", "ARROW_DOWN", "ARROW_DOWN")  # there is nothing after the last
    assert caption() == ["bert.jpg", "variation 1, N = 2, range 0"]
    browser.press("ARROW_LEFT", "ARROW_LEFT")
    assert caption() == ["anna.jpg", "variation 2, N = 2, range 0"]
    browser.press("ESCAPE")
    browser.wait("document.activeElement.ariaLabel == 'anna.jpg, variation 2'")
    browser.press("ARROW_LEFT")  # on the page too
    assert browser.driver.switch_to.active_element.get_attribute("aria-label") == "anna.jpg, variation 1"
    browser.press("ENTER")
    assert caption() == ["anna.jpg", "variation 1, N = 2, range 0"]
    browser.press("ESCAPE")


def test_a_sample_is_seen_coming_into_being(browser, tmp_path):
    content = page(["anna"], 2, ranges=(0,), film=1)
    for binding in content["bindings"]:
        binding["film"] = binding["factor"] > 2
    path = write(tmp_path, content)
    frames = [Image.new("RGB", (2 * WIDTH + 2, HEIGHT), colour) for colour in ("teal", "white")]
    for factor in ("N2.5", "N16"):
        frames[0].save(tmp_path / factor / "progress_grid.webp", save_all=True, append_images=frames[1:])
    browser.open(path)
    assert not browser.all(".film")
    slide(browser, "Downsample", "ARROW_RIGHT")
    assert [tile.get_attribute("aria-label") for tile in browser.all(".film")] == ["anna.jpg, variation 1"]
    browser.one(".film").click()
    assert not browser.one("#film").is_displayed()
    browser.one("#play").click()
    browser.wait("document.querySelector('#film img').naturalWidth == 18")
    shown = browser.one("#film img").size
    assert shown["width"] * HEIGHT == shown["height"] * 18 and shown["width"] % 18 == 0
    assert not browser.one("#compare").is_displayed()
    browser.press("ARROW_LEFT")  # another sample has none
    assert browser.one("#compare").is_displayed() and not browser.one("#play").is_displayed()
    browser.press("ESCAPE")
    assert browser.said() == []


def test_the_filter_leaves_the_rows_whose_name_has_it(browser, sweep):
    browser.open(sweep)
    browser.one("#filter").send_keys("ER")
    assert [row.text for row in browser.all(".row h2")] == ["bert.jpg"]
    browser.all("button.tile")[-1].click()
    browser.press("ARROW_RIGHT")  # not to a row that is not shown
    assert browser.one("#caption").text.startswith("bert.jpg\nvariation 1")
    browser.press("ESCAPE")
    browser.one("#filter").send_keys("x")
    assert not browser.all(".row") and browser.one("#nothing").is_displayed()


def test_the_command_is_copied(browser, sweep):
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    browser.open(sweep)
    browser.one("summary").click()
    browser.one("[data-copies=command]").click()
    browser.wait("document.querySelector('#said').textContent == 'Copied'")
    browser.run("navigator.clipboard.readText().then(text => window.copied = text)")
    browser.wait("window.copied == 'python sample_ilvr.py --seed 7'")
    assert browser.one("#values").text.split("\n") == ["seed", "7", "sampler", "DDPM"]


def test_the_command_breaks_at_spaces_only(browser, tmp_path):
    command = "python sample_ilvr.py " + " ".join(f"--a-{'long-' * (i % 4)}name" for i in range(20))
    browser.open(write(tmp_path, page(["anna"], 1, command=command)))
    browser.one("summary").click()
    for width in (360, 740, 1280):
        browser.screen(width, 800)
        texts = """
            const code = document.querySelector("#command"), walker = document.createTreeWalker(code, 4), lines = [];
            for (let node, last = null; (node = walker.nextNode()); ) {
              for (let i = 0; i < node.length; i++) {
                const range = new Range(); range.setStart(node, i); range.setEnd(node, i + 1);
                const top = Math.round(range.getBoundingClientRect().top);
                if (node.data[i] !== " " && top !== last) { lines.push(""); last = top; }
                lines[lines.length - 1] += node.data[i];
              }
            }
            return lines;
        """
        lines = browser.run(texts)
        assert len(lines) > 2 and "".join(lines) == command
        assert all(line.endswith(" ") for line in lines[:-1]), lines
    browser.screen(1280, 800)


def test_the_sliders_stay_beside_the_enlarged_image_on_a_low_screen(browser, sweep):
    browser.screen(740, 360)
    browser.open(sweep)
    browser.one("button.tile").click()
    browser.wait("document.querySelector('#after').getBoundingClientRect().height > 200")
    inputs = browser.all("dialog .slider input")
    assert len(inputs) == 2 and all(one.is_displayed() and one.size["width"] > 150 for one in inputs)
    bottoms = browser.run("return arguments[0].map(one => one.getBoundingClientRect().bottom)", inputs)
    assert all(24 <= bottom <= 360 for bottom in bottoms), bottoms
    browser.click(inputs[0], right_of_centre=inputs[0].size["width"] // 2 - 4)
    assert browser.one("#caption").text.endswith("N = 16, range 0")
    browser.press("ESCAPE")
    browser.screen(1280, 800)


def test_a_wide_screen_is_filled(browser, tmp_path):
    browser.screen(2560, 1000)
    browser.open(write(tmp_path, page(list("abcdefghijkl"), 24, (8.0,), (0,))))
    edges = browser.run("return [...document.querySelectorAll('.tile')].map(one => one.getBoundingClientRect().right)")
    assert 2100 < max(edges) <= 2560
    browser.screen(1280, 800)


def test_hostile_names_are_text_and_nothing_else(browser, tmp_path):
    """As file names, as far as a file system allows them; and as labels, settings and command in any case."""
    names = [name.replace("/", "_") for name in HOSTILE]
    hostile = " ".join(HOSTILE[:6])
    content = page(names, len(names), (8.0,), (0,), settings=[[name, hostile] for name in HOSTILE], command=hostile)
    for reference, label in zip(content["references"], HOSTILE, strict=True):
        reference["label"] = label
    browser.open(write(tmp_path, content))
    shown = browser.run("return [...document.querySelectorAll('.row h2')].map(name => name.textContent.toWellFormed())")
    assert shown == [label.replace("\udcff", "\ufffd") for label in HOSTILE]
    browser.wait("[...document.images].filter(i => i.src).every(i => i.complete && i.naturalWidth == 8)")
    browser.one("button.tile").click()
    assert browser.run("return document.querySelector('#command').textContent") == hostile
    assert browser.run("return [window.hacked ?? null, document.scripts.length, document.forms.length]") == [None, 2, 1]
    browser.press("ESCAPE")
    assert browser.said() == []


def test_a_run_on_files_of_hostile_names(browser, tmp_path, tiny_model):
    folder = tmp_path / "in & out" / "<b>'\""
    folder.mkdir(parents=True)
    for name in ["a'b", 'c"d', "e#f", "g%41", "h?i=j", "<img src=x onerror=window.hacked=1>", "k\nl", "m" * 240]:
        Image.new("RGB", (20, 20), "teal").save(folder / f"{name.replace('/', '')}.png")
    Image.new("RGB", (20, 20), "teal").save(os.fsencode(folder) + b"/\xff.png", "PNG")
    out = tmp_path / "100% #1"
    args = ("--weights", tiny_model, "--input_dir", folder, "--save_dir", out, "--respace_steps", 2)
    assert run_here(*args) == (0, "")
    browser.open(out / "index.html")
    browser.wait("document.images.length > 27 && [...document.images].filter(i => i.src).every(i => i.naturalWidth)")
    labels = browser.run("return [...document.querySelectorAll('.row h2')].map(name => name.textContent)")
    assert "<img src=x onerror=window.hacked=1>.png" in labels and r"\udcff.png" in labels and r"k\nl.png" in labels
    command = browser.run("return document.querySelector('#command').textContent")
    assert shlex.split(command)[2:] == list(map(str, args))
    assert browser.run("return window.hacked ?? null") is None
    assert browser.said() == []


def test_the_policy_stops_what_is_not_of_the_page(browser, tmp_path, sweep):
    """Even if something did come through the escaping."""
    shutil.copytree(sweep.parent, tmp_path / "sweep0")
    with serve(tmp_path) as (url, asked):
        injected = (
            "<script>window.hacked=1</script><img src=x onerror=window.hacked=1><style>body{display:none}</style>"
            f"<img src='{url}elsewhere.png'><script src='{url}elsewhere.js'></script><iframe src='{url}'></iframe>"
        )
        path = tmp_path / "sweep0" / "index.html"
        path.write_text(path.read_text("utf-8").replace("<header>", f"{injected}<header>"), "utf-8")
        browser.open(path)
        assert browser.run("return window.hacked ?? null") is None
        assert browser.one("h1").is_displayed() and len(sources(browser)) == 5
        with pytest.raises(Exception, match="TrustedHTML"):
            browser.run("document.body.innerHTML = '<b>'")
        assert asked == []
    browser.said()


class serve:
    """A static server for a folder: its address, and the paths that it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_request(handler, code="-", size="-") -> None:
                self.asked.append(f"{handler.path} {int(code)}")

        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
        )

    def __enter__(self) -> tuple[str, list[str]]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}/", self.asked

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def requests(browser: Browser) -> set[str]:
    """The addresses the browser has asked for since the last time."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {message["params"]["request"]["url"] for message in sent}


def test_no_request_leaves_the_folder_and_none_is_in_vain(browser, sweep):
    requests(browser)
    browser.open(sweep)
    browser.one("button.tile").click()
    browser.press("ARROW_UP", "ESCAPE")
    asked = requests(browser)
    assert len(asked) > 10 and all(url.startswith(f"{sweep.parent.as_uri()}/") for url in asked), asked
    with serve(sweep.parent) as (url, asked):
        browser.open(url)
        browser.wait("[...document.images].filter(i => i.src).every(i => i.complete && i.naturalWidth == 8)")
        assert len(asked) > 9 and [one for one in asked if not one.endswith((" 200", " 304"))] == []
    assert {address.startswith(url) for address in requests(browser)} == {True}
    assert browser.said() == []


def test_a_run_that_goes_on_is_looked_at_again(browser, tmp_path):
    def write_page(made: range, running: bool) -> Path:
        content = page(["anna", "bert"], 4, (8.0,), (0,), running=running)
        content["bindings"][0]["made"] = spans(made)
        content["pictures"] = dict.fromkeys(content["pictures"], spans(range(min(2, len(made)))))
        return write(tmp_path, content)

    browser.open(write_page(range(0), True))
    assert browser.one("#news").text.startswith("0 of 4 images") and len(browser.all(".missing")) == 8
    browser.open(write_page(range(1), True))
    assert browser.one("#news").text.startswith("1 of 4 images, last news just now.")
    assert len(browser.all(".missing")) == 2 + 3
    assert [tile.is_enabled() for tile in browser.all("button.tile")] == [True, False, False, False]
    browser.one("#filter").send_keys("e")
    browser.one("#settings summary").click()
    write_page(range(3), True)
    browser.wait("document.querySelector('#news')?.textContent.startsWith('3 of 4')")
    assert [row.text for row in browser.all(".row h2")] == ["bert.jpg"] and browser.one("#settings dl").is_displayed()
    browser.one("#filter").clear()
    assert len(browser.all(".missing")) == 1
    browser.one("button.tile").click()
    browser.press("ARROW_RIGHT", "ARROW_RIGHT")  # past the one that is missing
    assert browser.one("#caption").text.startswith("bert.jpg\nvariation 0")
    browser.press("ESCAPE")

    browser.open(write_page(range(3), False))  # it was interrupted
    assert browser.one("#news").text == "3 of 4 images. The same command goes on with the other 1."
    browser.open(write_page(range(4), False))
    assert not browser.one("#status").is_displayed()
    assert browser.said() == []


def test_thousands_of_images_are_loaded_as_one_comes_to_them(browser, tmp_path):
    path = write(tmp_path, page([f"picture {i:03}" for i in range(250)], 2000, (8.0,), (0,)))
    requests(browser)
    browser.open(path)
    browser.wait("document.images[0].complete")
    assert 10 < len(requests(browser)) < 140
    in_page = browser.run("return tiles.size")
    for _ in range(2):  # a page that refreshes itself for hours does not grow
        browser.driver.refresh()
    assert browser.run("return tiles.size") == in_page < 200
    for _ in range(100):
        if browser.run("scrollTo(0, 1e9); return tiles.size") == 2500:
            break
        browser.run("return new Promise(requestAnimationFrame)")
    assert len(browser.all(".row")) == 250 and len(browser.all("button.tile")) == 2000
    browser.wait("[...document.querySelectorAll('.row:last-child img')].every(i => i.naturalWidth == 8)")


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm install --no-save axe-core")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(browser, sweep, dark):
    for width in (1280, 360):
        browser.screen(width, 740, dark=dark)
        browser.open(sweep)
        browser.run("document.querySelector('details').open = true")
        assert_accessible(browser)
        assert browser.run("return document.documentElement.scrollWidth") == width
        browser.one("button.tile").click()
        browser.run("document.querySelector('dialog details').open = true")
        assert_accessible(browser)
        browser.press("ESCAPE")
    browser.screen(1280, 800)


def assert_accessible(browser: Browser) -> None:
    browser.run(AXE.read_text("utf-8"))
    found = browser.driver.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > 10
    assert [
        (v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")
    ] == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_focus_is_seen(browser, sweep, dark):
    browser.screen(1280, 800, dark=dark)
    browser.open(sweep)
    browser.press("TAB")
    for _ in range(5):
        outline = browser.run("return getComputedStyle(document.activeElement).outline")
        assert "2px" in outline and "solid" in outline, browser.run("return document.activeElement.outerHTML")
        browser.press("TAB")
    browser.screen(1280, 800)
