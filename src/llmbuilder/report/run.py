"""`report.html` of a run: curves, samples, settings, data and machine in one file that needs nothing else."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from llmbuilder.config.loading import read_config
from llmbuilder.config.schema import Config
from llmbuilder.documents.folders import is_prepared
from llmbuilder.errors import TrainingError
from llmbuilder.files import read_json_lines
from llmbuilder.report.build import read_summary, told_by_build, uses_of_build
from llmbuilder.report.charts import WIDE, Series, line_chart, short, smoothed
from llmbuilder.report.page import REPORT_NAME, figures, rows, settings_value, write_page


def _run_folder(path: Path) -> Path:
    """Return the path of a run's folder. Raises TrainingError for anything else that is there, or if nothing is."""
    wanted = "name the folder of a run, as `train` or `build` made it"
    if path.is_file():
        instead = f"name its folder: {path.parent}" if (path.parent / "run.json").is_file() else wanted
        raise TrainingError(f"{path} is a file, and a report is made of a whole run: {instead}")
    if not path.is_dir():
        raise TrainingError(f"there is no folder {path}: {wanted}")
    if is_prepared(path):
        page = path / REPORT_NAME
        raise TrainingError(f"{path} is a prepared corpus and no run: `data prepare` wrote its report, {page}")
    return path


class RunFiles:
    """What a run directory says of its run."""

    def __init__(self, folder: str | Path) -> None:
        """Read the run's files. Raises TrainingError if there is no run, or nothing was logged yet."""
        self.folder = _run_folder(Path(folder))
        self.name = self.folder.resolve().name
        try:
            self.record = json.loads((self.folder / "run.json").read_text("utf-8"))
        except FileNotFoundError:
            raise TrainingError(f"{self.folder} holds no run: there is no run.json in it") from None
        except json.JSONDecodeError as error:
            raise TrainingError(f"{self.folder / 'run.json'} is damaged: {error}") from None
        self.lines = read_json_lines(self.folder / "metrics.jsonl")
        if not self.lines:
            raise TrainingError(f"{self.folder} has no metrics yet: train for at least training.log_every steps")
        self.config = read_config(self.folder / "config.json")
        self.summary = self._own_summary()

    def _own_summary(self) -> dict[str, Any]:
        """Return what a build says of this run; nothing if the folder was trained in again since."""
        found = read_summary(self.folder)
        told = found.get("training", {})
        same_loss = told.get("best_validation_loss") == self.last("best_validation_loss")
        return found if same_loss and told.get("steps", -1) >= self.last("step") else {}

    def curve(self, name: str) -> list[tuple[float, float]]:
        """Return a metric as (step, value) points."""
        return [(line["step"], line[name]) for line in self.lines if isinstance(line.get(name), int | float)]

    def last(self, name: str) -> Any:
        """Return the last value of a metric, or None."""
        return next((line[name] for line in reversed(self.lines) if line.get(name) is not None), None)


def has_metrics(folder: str | Path) -> bool:
    """Whether a run has logged anything that a report could show."""
    return bool(read_json_lines(Path(folder) / "metrics.jsonl"))


def write_run_report(folder: str | Path, compared: str | Path | None = None, output: str | Path | None = None) -> Path:
    """Write the report of a run, beside an earlier one if given, and return its path (default: in the run directory).

    Raises TrainingError if a directory holds no run or nothing was logged yet.
    """
    run = RunFiles(folder)
    other = RunFiles(compared) if compared is not None else None
    path = Path(output) if output is not None else run.folder / REPORT_NAME
    body = "\n".join(
        [
            _header(run, other),
            told_by_build(run.summary),
            uses_of_build(run.summary),
            _figures(run, other),
            _charts(run, other),
            _samples(run),
            _events(run),
            _settings(run, other),
            _origin(run),
        ]
    )
    write_page(path, f"{run.name} · training report", body)
    return path


def _header(run: RunFiles, other: RunFiles | None) -> str:
    model = run.config.model
    parameters = float(f"{run.record.get('parameters', 0):.3g}")
    shape = (
        f"{short(parameters)} parameters · {model.model_type} · {model.num_layers} layers · "
        f"width {model.embedding_dim} · {model.num_heads} heads · context {model.max_seq_length}"
    )
    against = f'<p class="against">compared with <b>{html.escape(other.name)}</b> (dashed)</p>' if other else ""
    return f"<header><h1>{html.escape(run.name)}</h1><p>{html.escape(shape)}</p>{against}</header>"


_FIGURES = (
    ("best validation loss", "best_validation_loss", "{:.3f}"),
    ("held-out pairs as preferred", "validation_reward_accuracy", "{:.0%}"),
    ("training loss", "recent_loss", "{:.3f}"),
    ("held-out text in training", "validation_overlap", "{:.1%}"),
    ("steps", "step", "{:,.0f}"),
    ("tokens seen", "tokens", "{}"),
    ("tokens per second", "tokens_per_second", "{:,.0f}"),
    ("MFU", "mfu", "{:.1%}"),
    ("waiting for data", "data_wait", "{:.1%}"),
    ("most memory, GB", "memory_bytes", "{:.1f}"),
)


def _figures(run: RunFiles, other: RunFiles | None) -> str:
    tiles: list[tuple[str, str, str | None]] = []
    if run.summary.get("bits_per_byte") is not None:
        theirs = other.summary.get("bits_per_byte") if other else None
        against = f"{theirs:.2f}" if theirs is not None else None
        tiles.append(("bits per byte", f"{run.summary['bits_per_byte']:.2f}", against))
    for label, name, form in _FIGURES:
        value = _figure(run, name, form)
        if value is None:
            continue
        against = _figure(other, name, form) if other else None
        tiles.append((label, value, against))
    return figures(tiles)


def _figure(run: RunFiles, name: str, form: str) -> str | None:
    value = run.last(name)
    if value is None:
        value = run.record.get(name)
    if value is None:
        return None
    if name == "tokens":
        return short(float(f"{value:.3g}"))
    return form.format(value / 1e9 if name == "memory_bytes" else value)


def _charts(run: RunFiles, other: RunFiles | None) -> str:
    loss = [
        Series("each logged step", run.curve("loss"), "faint"),
        Series("training, smoothed", smoothed(run.curve("loss")), "first"),
        Series("validation", run.curve("validation_loss"), "second"),
    ]
    if other:
        loss.append(Series(f"{other.name}: training", smoothed(other.curve("loss")), "first other"))
        loss.append(Series(f"{other.name}: validation", other.curve("validation_loss"), "second other"))
    per = "pair" if run.config.finetuning.objective == "dpo" else "token"
    charts = [line_chart("Loss", loss, unit=f"nats per {per}, by step", width=WIDE), *_preferences(run, other)]
    for title, name, unit, is_log in (
        ("Learning rate", "learning_rate", "AdamW's, by step", False),
        ("Throughput", "tokens_per_second", "tokens per second", False),
        ("Gradient norm", "grad_norm", "before clipping", True),
        ("Waiting for data", "data_wait", "share of the time", False),
    ):
        series = [Series(run.name, run.curve(name), "first")]
        if other:
            series.append(Series(other.name, other.curve(name), "first other"))
        charts.append(line_chart(title, series, unit=unit, log_scale=is_log))
    return f'<section class="charts">{"".join(charts)}</section>'


def _preferences(run: RunFiles, other: RunFiles | None) -> list[str]:
    """Return how much, and of how many pairs, the chosen answer is preferred; nothing for a run without pairs."""
    charts = []
    for title, name, unit in (
        ("Reward margin", "reward_margin", "of the chosen answer over the rejected one, in nats"),
        ("Reward accuracy", "reward_accuracy", "share of the pairs whose chosen answer is preferred"),
    ):
        series = [Series("each logged step", run.curve(name), "first"),
                  Series("validation", run.curve(f"validation_{name}"), "second")]  # fmt: skip
        if other:
            series.append(Series(f"{other.name}: validation", other.curve(f"validation_{name}"), "second other"))
        if run.curve(name):
            charts.append(line_chart(title, series, unit=unit))
    return charts


def _samples(run: RunFiles) -> str:
    samples = [(line["step"], line["sample"]) for line in run.lines if "sample" in line]
    if not samples:
        return ""
    step = max(1, -(-len(samples) // 12))
    shown = samples[::-1][::step][::-1]
    rows = "".join(f"<tr><th>{number:,}</th><td><pre>{html.escape(text)}</pre></td></tr>" for number, text in shown)
    return f'<section><h2>Samples as it learned</h2><table class="pairs">{rows}</table></section>'


def _events(run: RunFiles) -> str:
    events = [(line["step"], line["event"]) for line in run.lines if "event" in line]
    rows = "".join(f"<tr><th>{step:,}</th><td>{html.escape(text)}</td></tr>" for step, text in events)
    return f'<section><h2>Events</h2><table class="pairs">{rows}</table></section>' if events else ""


def _settings(run: RunFiles, other: RunFiles | None) -> str:
    own, defaults = _flat(run.config.to_dict()), _flat(Config().to_dict())
    theirs = _flat(other.config.to_dict()) if other else own
    rows = []
    for name, value in own.items():
        differs = other is not None and theirs.get(name) != value
        if value == defaults.get(name) and not differs:
            continue
        against = f"<td>{html.escape(settings_value(theirs.get(name)))}</td>" if other else ""
        mark = ' class="differs"' if differs else ""
        rows.append(
            f"<tr{mark}><th>{html.escape(name)}</th><td>{html.escape(settings_value(value))}</td>{against}</tr>"
        )
    head = f"<tr><th></th><td>{html.escape(run.name)}</td><td>{html.escape(other.name)}</td></tr>" if other else ""
    shape = "" if other else ' class="pairs"'  # two columns are beside each other to be compared
    note = "differing from the defaults" + (" or between the runs" if other else "")
    return f"<section><h2>Settings <small>{note}</small></h2><table{shape}>{head}{''.join(rows)}</table></section>"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _origin(run: RunFiles) -> str:
    parts = [("Data", run.record.get("dataset", {})), ("Machine", run.record.get("machine", {})),
             ("Acceleration", run.record.get("acceleration", {}))]  # fmt: skip
    tables = "".join(f'<section><h2>{title}</h2><table class="pairs">{rows(values.items())}</table></section>'
                     for title, values in parts if values)  # fmt: skip
    return f'<div class="origin">{tables}</div>'
