"""The report of a run: complete, self-contained, and working in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.errors import TrainingError
from llmbuilder.model import build_model
from llmbuilder.report import write_run_report
from llmbuilder.report.charts import PHONE, Series, line_chart, short, smoothed, ticks
from llmbuilder.training import train_model

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.titles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "line", "circle", "polyline"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        self.titles += [value or "" for name, value in attributes if name == "aria-label"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "line", "circle", "polyline"):
            assert self.open.pop() == tag


@pytest.fixture
def other_run(tmp_path: Path, tiny_config: Config, prose: str) -> Path:
    tiny_config.training.log_every = 1
    dataset = TextDataset([prose], 32, train_split=0.9)
    train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "other", callbacks=[])
    return tmp_path / "other"


def test_a_run_leaves_its_report(trained_run: Path) -> None:
    text = (trained_run / "report.html").read_text("utf-8")
    page = Page(text)
    assert not page.open, "every element is closed"
    assert not page.addresses, "nothing is fetched from elsewhere"
    assert page.titles == ["Loss", "Learning rate", "Throughput", "Gradient norm", "Waiting for data"]
    for part in ("Samples as it learned", "Settings", "training.optimizer", "Machine", "best validation loss", "MFU"):
        assert part in text


def test_two_runs_are_compared(trained_run: Path, other_run: Path, tmp_path: Path) -> None:
    path = write_run_report(trained_run, other_run, tmp_path / "both.html")
    text = path.read_text("utf-8")
    assert "compared with <b>other</b>" in text
    assert text.count("other: training") == 3  # in the legend, and for the pointer on both screens
    assert re.search(r'<tr class="differs"><th>model.embedding_dim</th><td>64</td><td>32</td></tr>', text)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"holds no run: there is no run\.json"):
        write_run_report(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(TrainingError, match="is damaged"):
        write_run_report(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(TrainingError, match="no metrics yet"):
        write_run_report(tmp_path)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_it(trained_run: Path, other_run: Path, tmp_path: Path) -> None:
    assert BROWSER is not None
    page = write_run_report(trained_run, other_run, tmp_path / "page.html")
    text = page.read_text("utf-8")
    # A person's pointer, moved by a script of the test, over the middle of the first chart.
    page.write_text(text.replace("</body>", """<script>
        const chart = document.querySelector("svg[data-series]"), box = chart.getBoundingClientRect();
        chart.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width / 2, clientY: box.top + 50}));
    </script></body>"""))  # fmt: skip
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1200,1600", "--enable-logging=stderr",
    ]  # fmt: skip
    shown = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    tip = re.search(r'<div class="tip" style="display: block[^>]*>(.*?)</div>', shown.stdout, re.DOTALL)
    assert tip is not None, shown.stderr[-2000:]
    assert re.search(r"step \d+\neach logged step: \d\.\d+\ntraining, smoothed: \d\.\d+\nvalidation: \d\.\d+", tip[1])
    assert "Uncaught" not in shown.stderr
    picture = tmp_path / "page.png"
    subprocess.run([*command, f"--screenshot={picture}", page.as_uri()], capture_output=True, timeout=120, check=True)
    assert picture.stat().st_size > 30_000, "more than an empty page"


@given(st.lists(st.tuples(st.integers(0, 10**7), st.floats()), max_size=50), st.booleans())
def test_any_numbers_make_a_chart(points: list[tuple[int, float]], log_scale: bool) -> None:
    text = line_chart("<title>", [Series("a & b", sorted(points), "first")], log_scale=log_scale)
    Page(text)
    assert "<title>" not in text
    assert "nan" not in text.split("data-series")[0]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * width - 1e-9 <= tick <= low + width * (1 + 1e-6) + 1e-9 for tick in found)


def test_smoothing_begins_where_the_line_does() -> None:
    assert smoothed([(0, 5.0), (1, 5.0)]) == [(0, 5.0), (1, 5.0)]
    line = smoothed([(step, 1.0 + step % 2) for step in range(200)])
    assert line[-1][1] == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (12_000, "12k"), (3.5e6, "3.5M"), (0.002, "0.002"), (1e-5, "1e-05"), (250, "250")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_what_a_build_says_stands_first(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    words = {"facts": [["what it can do", "It forms <words>."], ["copied", "Nothing."]],
             "uses": [{"program": "Ollama", "commands": ["ollama create x -f Modelfile", "ollama run x"]}]}  # fmt: skip
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    best = [line["best_validation_loss"] for line in lines if "best_validation_loss" in line][-1]
    training = {"steps": lines[-1]["step"], "best_validation_loss": best}
    summary = {
        "bits_per_byte": 2.1234,
        "words": words,
        "training": training,
        "samples": [{"prompt": "The <sea", "continuation": " & ship"}],
    }
    (run / "summary.json").write_text(json.dumps(summary))
    text = write_run_report(run).read_text("utf-8")
    assert not Page(text).open
    first = text.index("It forms &lt;words&gt;.")
    assert first < text.index("The &lt;sea") < text.index("bits per byte") < text.index("svg viewBox")
    assert "<b>2.12</b>" in text
    assert '<pre class="given">The &lt;sea</pre><pre> &amp; ship</pre>' in text
    assert "ollama create x -f Modelfile\nollama run x" in text
    (run / "summary.json").write_text(json.dumps({**summary, "training": {**training, "steps": 1}}))
    assert "The &lt;sea" not in write_run_report(run).read_text("utf-8"), "it was trained on since"
    (run / "summary.json").write_text("{")
    with pytest.raises(TrainingError, match=r"summary\.json is damaged"):
        write_run_report(run)


def test_other_things_than_runs_are_named(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=rf"model\.pt is a file, .*name its folder: {trained_run}"):
        write_run_report(trained_run / "model.pt")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(TrainingError, match=r"notes\.txt is a file, .*name the folder of a run"):
        write_run_report(tmp_path / "notes.txt")
    with pytest.raises(TrainingError, match="there is no folder"):
        write_run_report(tmp_path / "nowhere")


def test_a_small_screen_has_charts_of_its_own(trained_run: Path) -> None:
    text = (trained_run / "report.html").read_text("utf-8")
    assert text.count('class="phone"') == text.count('class="wide"') == 5
    assert f'viewBox="0 0 {PHONE} ' in text
