"""The report: its files, and the page in a real browser (skipped, with the reason, if there is none)."""

import base64
import csv
import hashlib
import json
import re
import shutil
import struct
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import snapshot
from helpers.browser import open_browser
from helpers.run_folders import make_run, make_study, write_sweep

from kws.analysis.load import load
from kws.analysis.study import studies
from kws.data import corpus
from kws.errors import KwsError
from kws.report.charts import figures
from kws.report.page import page as page_html
from kws.report.write import write

EVIL = "<script>document.title='own'</script><img src=x onerror=y()>|`"


class Addresses(HTMLParser):
    """Collects the addresses in a page's tags."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]


def make_report(runs, out_dir, data_dir=None):
    results = load([runs])
    return write(studies(results), results.excluded, out_dir, data_dir)


@pytest.fixture(scope="module")
def written(tmp_path_factory, data_dir):
    """A report of two real-speech studies and a synthetic one with hostile names: (folder, results, studies)."""
    folder = tmp_path_factory.mktemp("report")
    clips = sorted((data_dir / "SpeechCommands" / "speech_commands_v0.02" / "testing_list.txt").read_text().split())
    parameters = {"n_mels": {"values": [20, 40, 80]}, "seed": {"values": [0, 1, 2]}}
    write_sweep(folder / "runs", "s1", description=f"How many bands? {EVIL}", method="grid", parameters=parameters)
    make_study(
        folder / "runs",
        seeds=3,
        clips=clips,
        accuracies={20: 0.96, 40: 0.96, 80: 0.96},
        record={"sweep_id": "s1", "started": "2026-11-22T09:00:00+00:00"},
    )
    make_study(folder / "runs", "groups", (1, 2, 4, 8), seeds=3)
    record = {"run_name": EVIL, "host": EVIL, "device_name": EVIL, "code_version": EVIL}
    make_study(
        folder / "runs", "channels", (8, 16), seeds=2, synthetic=True, data="synthetic", study=EVIL, record=record
    )
    for channels in (8, 16):
        for lr in (0.001, 0.003):
            make_run(folder / "runs", study="two", lr=lr, channels=channels)
    for number in range(6):
        settings = {"lr": 0.001 * (number + 1), "channels": 8 * (number % 3 + 1), "batch_size": 16 * (number % 2 + 1)}
        make_run(folder / "runs", study="search", **settings)
    make_run(folder / "runs", seed=9, study="groups", state="failed", summary={"error": EVIL})
    results = load([folder / "runs"])
    found = studies(results)
    write(found, results.excluded, folder / "out", data_dir)
    return folder / "out", results, found


def test_all_files_are_written(written):
    out, _, found = written
    expected = {figure.id for study in found for figure in figures(study)}
    assert {path.stem for path in (out / "figures").glob("*.png")} == expected
    assert {path.stem for path in (out / "figures").glob("*.svg")} == expected
    assert len(expected) > 30
    for path in (out / "figures").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    for path in (out / "figures").glob("*.png"):
        header = path.read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", header[16:24])
        assert width > 900 and height > 500
    assert sorted(path.name for path in out.iterdir()) == ["figures", "index.html", "report.md", "runs.csv"]


def test_runs_csv_has_every_run_with_its_numbers_or_the_reason_it_is_excluded(written):
    out, results, _ = written
    with open(out / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results.runs) + 1
    counted = [row for row in rows if not row["excluded"]]
    assert {row["study"] for row in counted} == {"n_mels", "groups", "two", "search", EVIL}
    assert all(0 < float(row["test/accuracy"]) <= 1 and row["seed"] for row in counted)
    assert [row["excluded"].startswith("failed") for row in rows if row["excluded"]] == [True]


def test_report_md_has_the_same_content(written):
    out = written[0]
    text = (out / "report.md").read_text()
    assert "## How many bands?" in text
    assert "<script>" not in text and "<img" not in text
    for link in re.findall(r"\]\((figures/[^)]+)\)", text):
        assert (out / link).is_file()
    row = next(line for line in text.splitlines() if line.startswith("| groups 8"))
    assert row.count("|") == 8 and "±" in row


def test_the_same_runs_give_the_same_figures(tmp_path):
    make_study(tmp_path / "runs", seeds=2)
    for name in ("once", "again"):
        make_report(tmp_path / "runs", tmp_path / name)
    once, again = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "figures").iterdir()} for name in ("once", "again")
    )
    assert len(once) == 16 and once == again


def test_the_page_fetches_nothing_and_runs_no_injected_code(written):
    text = (written[0] / "index.html").read_text()
    assert "<script>document" not in text and "<img src=x" not in text
    addresses = Addresses()
    addresses.feed(text)
    assert addresses.found and all(address.startswith(("data:", "#")) for address in addresses.found)
    assert not re.findall(r"url\((?!#)", text.split("<script>")[0])  # those in Vega's script are code
    data = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.S).group(1)
    specs = json.loads(data)["specs"].values()
    assert EVIL in [name for spec in specs for row in spec["datasets"]["rows"] for name in row.get("run", [])]
    assert text.count("data:audio/wav;base64,") > 0


def test_the_content_security_policy_allows_only_the_two_scripts_of_the_page(written):
    text = (written[0] / "index.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text).group(1)
    allowed = re.search(r"script-src (.*)$", policy).group(1).split()
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 2
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]
    assert policy.startswith("default-src 'none';") and "unsafe-eval" not in policy


def test_a_clip_outside_the_data_set_is_not_read(tmp_path, data_dir):
    shutil.copytree(data_dir, tmp_path / "data")
    folder = tmp_path / "data" / "SpeechCommands"
    secret = next((folder / "speech_commands_v0.02" / "yes").glob("*.wav"))
    shutil.copy(secret, folder / "secret.wav")
    make_run(tmp_path / "runs", accuracy=0.01, clips=["../secret.wav", "yes/" + secret.name])
    make_report(tmp_path / "runs", tmp_path / "out", tmp_path / "data")
    text = (tmp_path / "out" / "index.html").read_text()
    named = re.findall(r"<li><p><strong>.*?</li>", text, re.S)
    assert len(named) == 2
    assert [("data:audio" in item) for item in sorted(named, key=lambda item: "secret" in item)] == [True, False]


def test_sounds_come_only_from_the_named_or_the_configured_data_set(tmp_path, data_dir, monkeypatch):
    shutil.copytree(data_dir, tmp_path / "data")
    folder = tmp_path / "data" / "SpeechCommands" / "speech_commands_v0.02"
    clip = next((folder / "yes").glob("*.wav"))
    (folder / "private").mkdir()
    shutil.copy(clip, folder / "private")
    info = {"train": 64, "val": 200, "test": 2, "synthetic": False, "folder": str(folder)}
    clips = [f"yes/{clip.name}", f"private/{clip.name}"]

    def sounds(fingerprint, named=None):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        record = {"data_dir": str(tmp_path / "data"), "data_info": info | {"fingerprint": fingerprint}}
        make_run(tmp_path / "runs", accuracy=0.01, clips=clips, record=record)
        [study] = studies(load([tmp_path / "runs"]))
        return re.findall(r'aria-label="([^"]*\.wav)"', page_html([(study, [])], (), named))

    fingerprint = corpus.load(tmp_path / "data").fingerprint
    monkeypatch.chdir(tmp_path / "data")  # where there is no data set at the default path, data
    assert sounds(fingerprint) == []  # a run names the folder, the reader does not
    monkeypatch.setenv("KWS_DATA", str(tmp_path / "data"))
    assert sounds("0" * 16) == []
    assert sounds(fingerprint) == clips[:1]
    monkeypatch.delenv("KWS_DATA")
    assert sounds("0" * 16, named=tmp_path / "data") == clips[:1]


def one_run(runs):
    make_run(runs, epochs=1)


def without_predictions(runs):
    make_study(runs, seeds=2)
    make_run(runs, seed=9, run_id="incomplete")
    (runs / "incomplete" / "predictions.csv").unlink()
    for path in runs.glob("*/layers.csv"):
        path.unlink()


def without_finite_losses(runs):
    make_study(runs, seeds=2, epochs=2)
    for path in runs.glob("*/metrics.csv"):
        path.write_text("epoch,train/loss,val/accuracy\n1,nan,nan\n2,nan,nan\n")


def with_uneven_seeds(runs):
    for n_mels, seeds in ((20, range(4)), (40, range(2, 8)), (80, [99])):
        for seed in seeds:
            make_run(runs, seed=seed, n_mels=n_mels)


def without_errors(runs):
    make_study(runs, accuracies={20: 1.0, 40: 1.0, 80: 1.0}, jitter=0, seeds=3)


def with_one_word(runs):
    make_run(runs, clips=["yes/a_nohash_0.wav", "yes/b_nohash_0.wav"])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (one_run, "Nothing was compared: there is one run"),
        (without_predictions, "its predictions.csv has 0 of 200 validation clips; start a new run"),
        (without_finite_losses, "only 2 seeds are shared"),
        (with_uneven_seeds, "only 2 seeds are shared"),
        (without_errors, "No test clip was misclassified by any of the 9 runs."),
        (with_one_word, "Nothing was compared"),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_page_explains_incomplete_data(tmp_path, make, sentence):
    make(tmp_path / "runs")
    text = make_report(tmp_path / "runs", tmp_path / "out").read_text()
    assert sentence in text and ">nan" not in text and "NaN" not in text.split("<script>")[0]


def test_a_study_with_failed_runs_only_is_on_the_page(tmp_path):
    make_run(tmp_path / "runs")
    make_run(tmp_path / "runs", study="bad", state="failed", summary={"error": "no disk"})
    (tmp_path / "runs" / "bare").mkdir()
    (tmp_path / "runs" / "bare" / "summary.json").write_text("{}")
    index = make_report(tmp_path / "runs", tmp_path / "out")
    for text in (index.read_text(), (tmp_path / "out" / "report.md").read_text()):
        assert "Studies without a result" in text and "failed: no disk" in text and "bare" in text and "bad: " in text


def test_without_a_finished_run_there_is_no_report(tmp_path):
    make_run(tmp_path / "runs", state="failed", summary={"error": "no disk"})
    with pytest.raises(KwsError, match=r"report: none of the 1 runs can be used \(mels20.*failed: no disk\)"):
        make_report(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unwritable_output_folder_is_a_one_line_error(tmp_path):
    make_run(tmp_path / "runs")
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(KwsError, match="the report cannot be written .*; choose another --out"):
        make_report(tmp_path / "runs", tmp_path / "file" / "out")


def test_an_earlier_report_is_replaced_and_anything_else_is_refused(kws, work):
    make_study(Path("runs"), seeds=2)
    (work / "report" / "figures").mkdir(parents=True)
    assert kws("report").status == 2  # the folder has figures, but no runs.csv
    (work / "report" / "figures").rmdir()
    assert kws("report").status == 0
    before = {path.name for path in Path("report", "figures").iterdir()}
    Path("report", "notes.md").write_text("mine")
    shutil.rmtree("runs")
    make_study(Path("runs"), "groups", (1, 2), seeds=1)
    assert kws("report", "--margin=3").status == 0
    assert "- Choice: validation accuracy, margin 3.00 points" in Path("report", "report.md").read_text()
    after = {path.name for path in Path("report", "figures").iterdir()}
    assert after and not before & after and Path("report", "notes.md").read_text() == "mine"
    Path("site").mkdir()
    Path("site", "index.html").write_text("mine")
    for out in ("site", "runs", ".", "site/index.html"):
        before = snapshot(work)
        done = kws("report", "--out", out)
        assert (done.status, done.out, done.notices) == (2, "", [
            f"kws: {out}: is neither empty nor an earlier report; choose another --out"
        ])  # fmt: skip
        assert snapshot(work) == before


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def page(browser, written):
    browser.set_window_size(1280, 900)
    browser.get((written[0] / "index.html").as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def script(page, code, *arguments):
    return page.execute_script(code, *arguments)


def draw_all(page):
    """Wait until every chart is drawn."""
    wait_for(page, "[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg'))")


def wait_for(page, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not script(page, f"return {condition}"):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def first_lines(page):
    """Return the plot of the first training-loss figure, drawn and in the middle of the window."""
    plot = page.find_element("css selector", ".plot > [id$=train-loss]")
    script(page, "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
    wait_for(page, "document.querySelector('.plot > [id$=train-loss] svg')")
    return plot


def test_every_figure_is_drawn(page, written):
    drawn_figures = {figure.id: figure.kind for study in written[2] for figure in figures(study)}
    draw_all(page)
    drawn = script(
        page,
        """return [...document.querySelectorAll('.plot > div')].map(p => [p.id,
        p.querySelectorAll('svg .mark-line path, svg .mark-symbol path, svg .mark-rect path').length])""",
    )
    assert {figure for figure, _ in drawn} == set(drawn_figures)
    assert set(drawn_figures.values()) == {"lines", "dots", "bars", "scatter", "heat", "parallel", "steps"}
    assert all(marks > 1 for _, marks in drawn)
    bars = "return [...document.querySelectorAll('.mark-rect path')].map(bar => getComputedStyle(bar).fill)"
    assert all(fill.startswith("rgb(") for fill in script(page, bars))
    assert page.title.startswith("n_mels") or "n_mels" in page.title


def test_hostile_names_are_shown_as_text(page):
    assert (
        page.title != "own"
        and "own" not in page.title.split(":")[-1]
        and page.title.endswith("keyword-spotting studies")
    )
    assert script(page, "return document.querySelectorAll('main script, main img[src=x]').length") == 0
    assert EVIL in script(page, "return document.querySelector('main').textContent")


def test_the_legend_chooses_lines(page):
    plot = first_lines(page)
    strokes = """return [...arguments[0].querySelectorAll('.mark-line path')].map(p => getComputedStyle(p).stroke)"""
    first, second, third = script(page, strokes, plot)
    labels = plot.find_elements("css selector", ".role-legend-label text")
    assert [label.text for label in labels] == ["n_mels 20", "n_mels 40", "n_mels 80"]
    for number, shown in ((0, [first]), (2, [first, third]), (0, [third]), (2, [first, second, third])):
        labels[number].click()
        lines = "document.querySelector('[id$=train-loss]').querySelectorAll('.mark-line path')"
        wait_for(page, f"{lines}.length === {len(shown)}", 10)
        assert sorted(script(page, strokes, plot)) == sorted(shown)
        labels = plot.find_elements("css selector", ".role-legend-label text")


def test_the_runs_table_sorts_both_ways(page):
    table = page.find_element(
        "css selector", "article#" + script(page, "return document.querySelector('article').id") + " table.runs"
    )
    button = next(one for one in table.find_elements("css selector", "th button") if one.text.startswith("test"))
    index = script(page, "return arguments[0].closest('th').cellIndex", button)
    values = "return [...arguments[0].tBodies[0].rows].map(row => parseFloat(row.cells[arguments[1]].textContent))"
    for direction, in_order in (("ascending", False), ("descending", True)):
        script(page, "arguments[0].click()", button)
        assert script(page, "return arguments[0].closest('th').ariaSort", button) == direction
        found = script(page, values, table, index)
        assert len(found) == 9 and found == sorted(found, reverse=in_order)


@pytest.mark.parametrize("at_end", [False, True])
def test_the_pointer_shows_the_values(page, at_end):
    plot = first_lines(page)
    place = script(
        page,
        """const line = arguments[0].querySelector('.mark-line path');
        const at = line.getPointAtLength(arguments[1] ? line.getTotalLength() : 0).matrixTransform(line.getScreenCTM());
        return [at.x, at.y]""",
        plot,
        at_end,
    )
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": place[0], "y": place[1]})
    wait_for(page, "document.querySelector('#tip.visible')")
    tip = page.find_element("id", "tip")
    assert tip.is_displayed() and re.search(rf"epoch:?\s+{8 if at_end else 1}\b", tip.text), tip.text
    assert "training loss" in tip.text and "n_mels" in tip.text and "highest" in tip.text
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 5, "y": 5})
    wait_for(page, "!document.querySelector('#tip.visible')")


def test_every_figure_has_a_table_of_its_numbers(page, written):
    shown = script(
        page,
        """return Object.fromEntries([...document.querySelectorAll('figure .plot > div')].map(plot =>
        [plot.id, plot.closest('figure').querySelectorAll('details.numbers tbody tr').length]))""",
    )
    assert shown == {figure.id: len(figure.rows) for study in written[2] for figure in figures(study)}
    assert all(shown.values())


def test_the_numbers_open_with_the_keyboard(page):
    summary = page.find_element("css selector", "details.numbers summary")
    script(page, "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'}); arguments[0].focus()", summary)
    table = page.find_element("css selector", "details.numbers table")
    assert not table.is_displayed()
    summary.send_keys("\ue007")  # enter
    assert table.is_displayed() and len(table.find_elements("css selector", "tbody tr")) == 3


def test_the_player_has_audio_and_the_picture_loads(page):
    found = page.execute_async_script("""const done = arguments[0], audio = document.querySelector('audio');
        const look = () => done([audio.duration, document.querySelector('.clips img').naturalWidth]);
        audio.readyState ? look() : (audio.onloadedmetadata = look, audio.onerror = () => done('error'))""")
    assert 0.5 < found[0] <= 1.0 and found[1] == 101


def test_the_theme_button_switches_between_both_themes(page):
    line, colours, of_lines = first_lines(page), set(), set()
    for wanted in ("light", "dark", "auto"):
        script(page, "document.querySelector('.theme').click()")
        assert script(page, "return document.documentElement.dataset.theme") == wanted
        colours.add(script(page, "return getComputedStyle(document.body).backgroundColor"))
        of_lines.add(
            script(page, "return getComputedStyle(arguments[0].querySelector('.mark-line path')).stroke", line)
        )
    assert len(colours) == 2 and len(of_lines) == 2


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_horizontal_scrolling_and_no_layout_shift(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        page.refresh()
        draw_all(page)
        assert script(page, "return document.documentElement.scrollWidth") <= width
        shift = page.execute_async_script("""const done = arguments[0]; let sum = 0;
            new PerformanceObserver(list => list.getEntries().forEach(entry => sum += entry.value))
                .observe({type: 'layout-shift', buffered: true});
            setTimeout(() => done(sum), 300)""")
        assert shift < 0.02
        narrow = script(
            page, "return [...document.querySelectorAll('.plot svg')].filter(s => s.clientWidth < 240).length"
        )
        assert narrow == 0
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_elements_have_accessible_names(page):
    assert script(
        page, "return [...document.querySelectorAll('.plot')].every(p => p.role === 'img' && p.ariaLabel.length > 20)"
    )
    assert script(page, "return [...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent)")
    assert script(page, "return [...document.querySelectorAll('button')].every(b => b.textContent.trim())")
    assert script(page, "return [...document.querySelectorAll('audio, img')].every(e => e.ariaLabel || e.alt)")
    ids = script(page, "return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_two_hundred_runs_are_drawn_on_a_small_page(browser, tmp_path):
    make_study(tmp_path / "runs", values=(10, 20, 40, 80), seeds=50, epochs=20)
    path = make_report(tmp_path / "runs", tmp_path / "out")
    assert path.stat().st_size < 3_000_000
    browser.get(path.as_uri())
    draw_all(browser)
    assert script(browser, "return document.querySelectorAll('.plot svg').length") == 8
    marks = "return document.querySelectorAll('[id$=test-accuracy] svg .mark-symbol path').length"
    assert script(browser, marks) == 200
    assert script(browser, "return document.querySelectorAll('[id$=train-loss] .mark-area path').length") == 4
