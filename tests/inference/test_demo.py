"""kws demo: the page computes torch's probabilities, hears the microphone, and contacts nobody. In a real browser."""

import base64
import hashlib
import re
import signal
import urllib.request

import numpy as np
import pytest
import soundfile
import torch
from conftest import start
from helpers.browser import open_browser
from helpers.run_folders import make_run
from inference.test_export import VARIANTS, variant

from kws.config import Config
from kws.inference import demo, export
from kws.model.network import label_probabilities
from kws.training import checkpoints

EVIL = "<img src=x onerror=y()>"


def save(run_dir, run_id="made", **settings):
    """Write the run folder of an untrained model; return folder and model."""
    model = variant(**settings)
    config = Config(**{"channels": 8} | settings)
    folder = make_run(run_dir, run_id=run_id, **{"channels": 8} | settings)
    checkpoint = {"model": model.state_dict(), "config": config.as_dict() | {"schema": 1}, "epoch": 1}
    checkpoints.write(folder / "best.pt", checkpoint)
    return folder, model


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A recording of 6 s for the browser's microphone: a tone of half a second every two seconds, in noise."""
    path = tmp_path_factory.mktemp("sound") / "tones.wav"
    times = np.arange(6 * 16000) / 16000
    tones = np.sin(2 * np.pi * 1000 * times) * (times % 2 < 0.5)
    noise = np.random.default_rng(0).standard_normal(len(times))
    soundfile.write(path, 0.3 * tones + 0.0003 * noise, 16000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory, sound):
    fake = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    folder = tmp_path_factory.mktemp("chromium")
    with open_browser(folder, *fake, f"--use-file-for-fake-audio-capture={sound}") as driver:
        yield driver


@pytest.fixture
def opened(browser):
    """Return a function that opens the page of a run; at the end the console must be empty."""
    yield lambda path: browser.get(path.as_uri()) or browser
    assert browser.get_log("browser") == []


def page_of(folder, tmp_path):
    path = tmp_path / f"{folder.name}.html"
    path.write_text(demo.demo_page(str(folder), "runs"), encoding="utf-8")
    return path


def test_the_report_links_the_demo_of_a_studys_model_if_it_is_on_this_machine(tmp_path, kws):
    folder, _ = save(tmp_path / "runs")
    report = tmp_path / "report"
    assert kws("report", tmp_path / "runs", "--out", report).status == 0
    (written,) = (report / "demo").iterdir()
    assert written.read_text(encoding="utf-8") == demo.demo_page(str(folder), "")
    assert f'href="demo/{written.name}"' in (report / "index.html").read_text(encoding="utf-8")
    (folder / "best.pt").unlink()
    assert kws("report", tmp_path / "runs", "--out", report).status == 0
    assert 'href="demo/' not in (report / "index.html").read_text(encoding="utf-8") and not written.exists()


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_page_gives_torchs_probabilities(settings, tmp_path, opened):
    folder, model = save(tmp_path, **settings)
    page, clips = opened(page_of(folder, tmp_path)), export.noise_and_tones(8)
    with torch.no_grad():
        expected = label_probabilities(model(clips))
    text = base64.b64encode(clips.numpy().tobytes()).decode()
    found = page.execute_script(
        "const all = numbers(arguments[0]); return Array.from({length: 8}, (_, i) =>"
        " Array.from(probabilities(all.subarray(i * 16000, (i + 1) * 16000))))",
        text,
    )
    assert np.abs(np.array(found) - expected.numpy()).max() < 1e-3


def wait_for(page, condition, seconds=30):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, seconds, 0.1).until(lambda _: page.execute_script(f"return {condition}"), condition)


def test_the_page_hears_the_microphone_and_files(tmp_path, sound, opened):
    page = opened(page_of(save(tmp_path)[0], tmp_path))
    page.execute_script("threshold.value = 0.5")  # this model is never sure
    page.find_element("id", "listen").click()
    wait_for(page, "detections.length >= 2")
    first, second = page.execute_script("return detections.slice(0, 2)")
    assert 1.5 < second["time"] - first["time"] < 2.5 and {first["label"], second["label"]} <= {"no", "yes"}
    assert page.execute_script("return status.textContent") == "Listening."
    shares = [element.text for element in page.find_elements("css selector", "#bars .share")]
    assert sum(int(share.split()[0]) for share in shares) in (99, 100, 101)
    page.find_element("id", "listen").click()
    assert page.execute_script("return context === undefined && button.textContent.startsWith('Listen')")

    page.find_element("id", "file").send_keys(str(sound))
    wait_for(page, "status.textContent.startsWith('tones.wav: 6.0 s')")
    times = page.execute_script("return detections.map(({time}) => time)")
    assert [round(time) for time in times] == [2, 4] or [round(time) for time in times] == [0, 2, 4], times
    word = tmp_path / "word.wav"
    soundfile.write(word, soundfile.read(sound)[0][:12000], 16000)
    page.find_element("id", "file").send_keys(str(word))
    wait_for(page, "status.textContent.startsWith('word.wav')")
    assert len(page.find_elements("css selector", "#detections li")) == 1
    (tmp_path / "text.wav").write_text("no sound")
    page.find_element("id", "file").send_keys(str(tmp_path / "text.wav"))
    wait_for(page, "status.textContent.startsWith('text.wav cannot be read as audio')")


def test_the_page_fetches_nothing_and_runs_its_own_script_alone(tmp_path):
    folder, _ = save(tmp_path, words=("nein", "ja"), run_id=EVIL)
    text = demo.demo_page(str(folder), "runs")
    assert EVIL not in text and "&lt;img" in text
    text = text.replace("src=x onerror", "")
    assert not re.findall(r"(?:src|href|action)=|url\(|https?://", text)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text).group(1)
    [script] = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}' data:"
    assert "“nein” or “ja”" in text and len(script.splitlines()) <= 350


def test_the_page_is_written_or_served_on_this_machine_alone(tmp_path, kws):
    save(tmp_path / "runs")
    outcome = kws("demo", "made", "--run_dir", tmp_path / "runs", "--out", tmp_path / "demo.html")
    assert (outcome.status, outcome.out) == (0, f"{tmp_path / 'demo.html'}\n")
    process = start("demo", "made", cwd=tmp_path, env={"BROWSER": "true"})
    try:
        url = re.search(r"http://127.0.0.1:\d+/", process.stderr.readline()).group()
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == (tmp_path / "demo.html").read_bytes()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
