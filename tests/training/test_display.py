"""What a notebook shows of a run and of its results, and the time left."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import llmbuilder as lb
from llmbuilder.building.result import BuildResult, Sample
from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.training.display.notebook import NotebookProgress, default_progress
from llmbuilder.training.display.progress import SteadyCountdown, TrainingProgress
from llmbuilder.training.results import TrainingResults


class FakeDisplay(ModuleType):
    """IPython.display: places that show one thing at a time."""

    def __init__(self) -> None:
        super().__init__("IPython.display")
        self.places: list[list[str]] = []

    def HTML(self, text: str) -> str:
        return text

    def display(self, shown: str, *, display_id: bool) -> Any:
        assert display_id
        place = [shown]
        self.places.append(place)
        return SimpleNamespace(update=place.append)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> FakeDisplay:
    ipython, display = ModuleType("IPython"), FakeDisplay()
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return display


def results(history: list[dict[str, Any]], **values: Any) -> TrainingResults:
    return TrainingResults(
        **{"final_loss": 2.0, "best_validation_loss": 2.5, "perplexity": 12.2, "tokens_per_second": 1e4,
           "training_time": 3.0, "steps": 20, "model_path": "run/model.pt", "tokenizer_path": None, "history": history,
           **values}
    )  # fmt: skip


def test_a_notebook_shows_one_card_that_renews_itself(
    tmp_path: Path, tiny_config: Config, prose: str, notebook: FakeDisplay, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(prose)
    dataset = TextDataset.from_config(tmp_path / "text.txt", tiny_config)
    lb.train_model(lb.build_model(tiny_config), dataset, tiny_config, tmp_path / "run")
    [place] = notebook.places
    assert len(place) >= 2
    assert 'step</td><td style="text-align:left">0 of 12' in place[0]
    assert "<polyline" in place[-1] and "12 of 12" in place[-1] and "done in" in place[-1]
    assert "step" not in capsys.readouterr().err  # the terminal's lines are not there as well


def test_the_card_is_drawn_now_and_then_and_says_what_a_run_ended_with(notebook: FakeDisplay) -> None:
    now = 0.0
    progress = NotebookProgress(clock=lambda: now)
    plan = SimpleNamespace(first_step=0, max_steps=1000, parameters_in_words="5,000 parameters", device="cpu")
    progress.on_start(plan)  # type: ignore[arg-type]
    for step in range(1, 1001):
        now = step / 100
        row = {"step": step, "loss": 5 - step / 500, "max_steps": 1000, "seconds_left": 10 - now}
        progress.on_step(row)
        if step % 100 == 0:
            progress.on_log({**row, "sample": "a <b>bold</b> word"})
    assert 15 <= len(notebook.places[0]) <= 25
    assert "&lt;b&gt;bold" in notebook.places[0][-1]
    progress.on_rewind(500)
    progress.on_failure()
    assert "ended by an error" in notebook.places[0][-1]
    assert notebook.places[0][-1].count(",") < notebook.places[0][-2].count(",")  # points past the step are gone


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["no shell", "a terminal's shell"])
def test_elsewhere_it_is_a_terminals_display(
    monkeypatch: pytest.MonkeyPatch, notebook: FakeDisplay, shell: Any
) -> None:
    assert isinstance(default_progress(), NotebookProgress)
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    assert isinstance(default_progress(), TrainingProgress)
    monkeypatch.delitem(sys.modules, "IPython")
    assert isinstance(default_progress(), TrainingProgress)


def test_results_are_cards_with_the_curve() -> None:
    history = [{"step": step, "loss": 5.0 - step / 10, "validation_loss": 5.1 - step / 10} for step in (0, 10, 20)]
    trained = results(history, model_path="runs/<i>a & b</i>/model.pt")
    card = trained._repr_html_()
    assert card.count("<polyline") == 2 and "validation" in card
    assert "runs/&lt;i&gt;a &amp; b&lt;/i&gt;/model.pt" in card and "<i>" not in card
    built = BuildResult(
        output="b", model_path="b/model.pt", gguf_path=None, documents={"documents": 3}, plan=None, training=trained,
        bits_per_byte=1.5, samples=[Sample("<script>", "alert(1)</script>")], export=None, verification=None, seconds=1.0,
        ability="forms sentences",
    )  # fmt: skip
    card = built._repr_html_()
    assert "<polyline" in card and "1.500" in card and "forms sentences" in card
    assert "<script" not in card and "&lt;script&gt;" in card
    assert "<svg" not in results([])._repr_html_()  # a run that logged nothing
    odd = results([{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 3.0}, {"step": 3, "loss": 3.0}])
    assert "nan" not in odd._repr_html_()


def test_the_time_left_passes_as_the_clock_does() -> None:
    now = 0.0
    countdown = SteadyCountdown(clock=lambda: now)
    shown = [countdown.after(100.0)]
    for second in range(1, 101):
        now = float(second)
        jump = 1.6 if second % 10 == 0 else 1.0  # a slow step in ten makes the estimate jump
        shown.append(countdown.after((100.0 - second) * jump))
    falls = [before - after for before, after in itertools.pairwise(shown)]
    assert shown[-1] == 0
    assert sum(fall < 0 for fall in falls[:80]) <= 8  # it hardly ever counts up
    assert max(abs(left - (100 - second)) for second, left in enumerate(shown)) < 12


def test_a_machine_that_slows_down_is_believed_in_time() -> None:
    now = 0.0
    countdown = SteadyCountdown(clock=lambda: now)
    countdown.after(100.0)
    for second in range(1, 61):
        now = float(second)
        left = countdown.after(200.0 - second)
    assert left == pytest.approx(140, abs=40)
