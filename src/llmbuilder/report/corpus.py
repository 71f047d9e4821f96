"""`report.html` of a corpus: what came in, what went out and why, in one file that needs nothing else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import DataConfig, SystemConfig
from llmbuilder.documents.tables import iter_parquet_rows
from llmbuilder.errors import DataError
from llmbuilder.report.charts import short
from llmbuilder.report.corpus_audit import audit_section
from llmbuilder.report.corpus_samples import samples
from llmbuilder.report.fates import Fate, fates, wiped_out
from llmbuilder.report.page import REPORT_NAME, figures, rows, write_page
from llmbuilder.stages import AT_WORK, DROPPED_AT

STAGE_TIMES = Path("work") / "stages.json"
_MOST_BARS = 14
_EXAMPLES = 3
_LIMIT = re.compile(r"(?<= above| below) [\d.e+-]+$")
_MOST_FATES = 20


def write_corpus_report(folder: str | Path) -> Path:
    """Write the report of a prepared corpus into its folder and return its path. Raises DataError if there is none."""
    folder = Path(folder)
    try:
        corpus = json.loads((folder / "corpus.json").read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder} holds no prepared corpus: there is no corpus.json in it") from None
    groups = corpus["groups"]
    body = "".join(
        [
            _header(folder, corpus),
            _figures(corpus),
            _warnings(groups),
            _flow(corpus),
            _fates("Languages", fates(groups, "languages")),
            _fates("Formats", fates(groups, "formats")),
            '<section class="charts">',
            _bars("Inputs", "documents", groups.get("collections", {})),
            _histogram("Length", "documents by characters", groups.get("lengths", {})),
            _token_lengths(corpus),
            _bars("Cleaning", "changes by rule", groups.get("cleaning", {})),
            _bars("Rules skipped", "documents whose language a rule does not know", groups.get("rules skipped", {})),
            _bars("Replaced", "personal data and secrets by kind", groups.get("redacted", {})),
            _bars("Columns left out", "rows of tables", groups.get("columns left out", {})),
            "</section>",
            _held_out(corpus),
            audit_section(folder),
            samples(folder, corpus),
            _reasons(corpus, _examples(folder, corpus)),
            _clusters(corpus),
            _stage_times(folder, corpus),
            _settings(corpus),
        ]
    )
    path = folder / REPORT_NAME
    write_page(path, f"{folder.resolve().name} · corpus report", body)
    return path


def _header(folder: Path, corpus: dict[str, Any]) -> str:
    inputs = html.escape(", ".join(corpus["inputs"]))
    return f"<header><h1>{html.escape(folder.resolve().name)}</h1><p>{inputs}</p></header>"


def _figures(corpus: dict[str, Any]) -> str:
    counts, tokens = corpus["counts"], corpus["tokens"] or {}
    share = counts.get("characters", 0) / max(1, counts.get("characters found", 0))
    shown = [
        ("documents found", f"{counts.get('found', 0):,}", None),
        ("documents kept", f"{counts.get('documents', 0):,}", None),
        ("characters kept", short(counts.get("characters", 0)), f"{share:.1%} of those read"),
    ]
    if tokens:
        train, validation = (tokens.get(part, {}).get("tokens", 0) for part in ("train", "validation"))
        size = tokens["train"]["bytes_of_text"] / max(1, train) if "train" in tokens else 0
        shown += [
            ("training tokens", short(train), f"{size:.2f} bytes a token"),
            ("validation tokens", short(validation), _overlap(corpus)),
            ("vocabulary", f"{corpus['tokenizer']['tokens']:,}", corpus["tokenizer"]["algorithm"]),
        ]
    return figures(shown)


def _overlap(corpus: dict[str, Any]) -> str | None:
    overlap = (corpus.get("held_out") or {}).get("overlap")
    return None if overlap is None else f"{overlap:.1%} of them in training, too"


def _warnings(groups: dict[str, dict[str, int]]) -> str:
    lines = "".join(f"<li>{html.escape(fate.warning())}</li>" for fate in wiped_out(groups))
    title = "Nearly nothing is left of these <small>is that what you want?</small>"
    return f'<section class="warning"><h2>{title}</h2><ul>{lines}</ul></section>' if lines else ""


def _fates(title: str, found: list[Fate]) -> str:
    """Return a table of what became of the documents of each language or format."""
    if not found:
        return ""
    stages = [stage for stage in DROPPED_AT if any(stage in fate.left_out for fate in found)]
    head = "".join(f'<th class="number">{words}</th>' for words in ("found", *(DROPPED_AT[s] for s in stages), "kept"))
    lines = []
    for fate in found[:_MOST_FATES]:
        counts = [fate.found, *(fate.left_out.get(stage, 0) for stage in stages), fate.kept]
        cells = "".join(f'<td class="number">{count or "":,}</td>' if count else "<td></td>" for count in counts)
        marked = ' class="lost"' if fate.is_nearly_wiped_out else ""
        lines.append(
            f"<tr{marked}><th>{html.escape(fate.name)}</th>{cells}<td>{_bar(fate.kept / max(1, fate.found))}</td>"
            f'<td class="number">{fate.kept / max(1, fate.found):.0%}</td></tr>'
        )
    more = f"<p>and {len(found) - _MOST_FATES} more</p>" if len(found) > _MOST_FATES else ""
    body = f'<table class="fates"><tr><th></th>{head}<th></th><th></th></tr>{"".join(lines)}</table>{more}'
    return f"<section><h2>{title} <small>documents found, left out, kept</small></h2>{body}</section>"


def _held_out(corpus: dict[str, Any]) -> str:
    held_out = corpus.get("held_out")
    if not held_out or not held_out["largest"]:
        return ""
    lines = "".join(
        f"<tr><th>{html.escape(item['source'])}</th><td>{_bar(item['overlap'])}</td>"
        f'<td class="number">{item["overlap"]:.1%}</td></tr>'
        for item in held_out["largest"]
    )
    title = (
        f"Held-out documents that share most with training <small>of {held_out['documents']:,}, by word 8-grams</small>"
    )
    return f'<section><h2>{title}</h2><table class="bars">{lines}</table></section>'


def _stage_times(folder: Path, corpus: dict[str, Any]) -> str:
    """Return how long the last preparation took by stage, and what became of the characters."""
    try:
        seconds = json.loads((folder / STAGE_TIMES).read_text("utf-8"))
    except FileNotFoundError:
        return _characters(corpus)
    lines = [(AT_WORK[stage], f"{taken:.1f} s") for stage, taken in seconds.items()]
    title = "Stages <small>seconds of the last preparation; what was there already took none</small>"
    times = f"<section><h2>{title}</h2><table>{rows(lines)}</table></section>"
    return f'<div class="origin">{times}{_characters(corpus)}</div>'


def _characters(corpus: dict[str, Any]) -> str:
    """Return what became of the characters that were read; the lines add up."""
    found, kept = (corpus["counts"].get(name, 0) for name in ("characters found", "characters"))
    lost = {stage: count for stage, count in corpus["groups"].get("characters left out", {}).items() if count}
    changed = kept - (found - sum(lost.values()))
    lines = [("read", f"{found:,}"), *((DROPPED_AT[stage], f"−{count:,}") for stage, count in lost.items())]
    lines += [("by cleaning and the like", f"{changed:+,}".replace("-", "−"))] if changed else []
    lines += [("kept", f"{kept:,}"), ("bytes as UTF-8", f"{corpus['counts'].get('bytes', 0):,}")]
    return f"<section><h2>Characters <small>read, left out, kept</small></h2><table>{rows(lines)}</table></section>"


def _flow(corpus: dict[str, Any]) -> str:
    found = max(1, corpus["counts"].get("found", 0))
    left, lines = found, []
    for stage, words in DROPPED_AT.items():
        number = sum(corpus["dropped"].get(stage, {}).values())
        if number:
            left -= number
            lines.append((words, number, left))
    body = "".join(
        f'<tr><th>{words}</th><td class="number">−{number:,}</td><td>{_bar(left / found)}</td>'
        f'<td class="number">{left:,}</td></tr>'
        for words, number, left in [("found", 0, found), *lines]
    ).replace("−0", "")
    return f'<section><h2>From what was found to what is kept</h2><table class="flow">{body}</table></section>'


def _bars(title: str, unit: str, values: dict[str, int]) -> str:
    if not values:
        return ""
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:_MOST_BARS], ordered[_MOST_BARS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(count for _, count in rest)))
    return _bar_table(title, unit, shown)


def _histogram(title: str, unit: str, values: dict[str, int]) -> str:
    if not values:
        return ""
    places = range(min(map(int, values)), max(map(int, values)) + 1)
    return _bar_table(title, unit, [(f"{_power(p)} to {_power(p + 1)}", values.get(str(p), 0)) for p in places])


def _power(exponent: int) -> str:
    """Return a power of two as 512, 8K, 2M."""
    step = min(3, exponent // 10)
    return f"{2 ** (exponent - 10 * step)}{('', 'K', 'M', 'G')[step]}"


def _bar(share: float) -> str:
    return f'<div class="bar"><i style="width:{share:.2%}"></i></div>'


def _bar_table(title: str, unit: str, items: Sequence[tuple[str, int]]) -> str:
    most = max(count for _, count in items) or 1
    lines = "".join(
        f'<tr><th>{html.escape(name)}</th><td>{_bar(count / most)}</td><td class="number">{count:,}</td></tr>'
        for name, count in items
    )
    return (
        f'<figure><figcaption><b>{title}</b> <span class="unit">{unit}</span></figcaption>'
        f'<table class="bars">{lines}</table></figure>'
    )


def _token_lengths(corpus: dict[str, Any]) -> str:
    lengths: dict[str, int] = {}
    for part in (corpus["tokens"] or {}).values():
        for key, count in part["lengths"].items():
            lengths[key] = lengths.get(key, 0) + count
    return _histogram("Length in tokens", "documents by tokens", lengths)


def _examples(folder: Path, corpus: dict[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    wanted = {(stage, reason) for stage, reasons in corpus["dropped"].items() for reason in reasons}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    full = 0
    for name in corpus["dropped_files"]:
        if full == len(wanted):
            break
        for row in iter_parquet_rows(folder / "dropped" / name):
            stage, text = row["stage"], row["reason"]
            reason = next((known for at, known in wanted if at == stage and text.startswith(known)), "")
            examples = found.setdefault((stage, reason), [])
            if len(examples) < _EXAMPLES:
                examples.append(row)
                full += len(examples) == _EXAMPLES
    return found


def _reasons(corpus: dict[str, Any], examples: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    blocks = []
    for stage, words in DROPPED_AT.items():
        dropped = corpus["dropped"].get(stage, {})
        groups = _by_rule(dropped).items()
        for title, reasons in sorted(groups, key=lambda group: -sum(dropped[reason] for reason in group[1])):
            rows_of = [row for reason in reasons for row in examples.get((stage, reason), [])]
            blocks.append(
                f"<details><summary><b>{sum(dropped[reason] for reason in reasons):,}</b> {html.escape(words)}: "
                f"{html.escape(title)}</summary><table>{''.join(map(_example, rows_of[:_EXAMPLES]))}</table></details>"
            )
    return (
        f"<section><h2>Left out, and why <small>with examples</small></h2>{''.join(blocks)}</section>" if blocks else ""
    )


def _by_rule(reasons: Iterable[str]) -> dict[str, list[str]]:
    """Return reasons by what is said of them: those of one rule are one, whose limit differs between languages."""
    groups: dict[str, list[str]] = {}
    for reason in reasons:
        groups.setdefault(_LIMIT.sub("", reason), []).append(reason)
    return {alike[0] if len(alike) == 1 else f"{rule} a limit of the language": alike for rule, alike in groups.items()}


def _example(row: dict[str, Any]) -> str:
    note = row["reason"] + (f" ({row['of']})" if row["of"] else "")
    excerpt = f"<pre>{html.escape(row['excerpt'])}</pre>" if row["excerpt"] else ""
    return f"<tr><th>{html.escape(row['source'])}</th><td>{html.escape(note)}{excerpt}</td></tr>"


def _clusters(corpus: dict[str, Any]) -> str:
    clusters = corpus["duplicates"]["largest_clusters"]
    lines = "".join(
        f"<tr><th>{html.escape(cluster['kept'])}</th><td>{cluster['dropped']:,} like it: "
        f"{html.escape(', '.join(cluster['examples']))}{', …' if cluster['dropped'] > len(cluster['examples']) else ''}"
        "</td></tr>"
        for cluster in clusters
    )
    title = "Largest groups of duplicates <small>the one kept, and its copies</small>"
    return f"<section><h2>{title}</h2><table>{lines}</table></section>" if lines else ""


def _settings(corpus: dict[str, Any]) -> str:
    defaults = {**DataConfig().model_dump(), "seed": SystemConfig().seed}
    chosen = {name: value for name, value in corpus["settings"].items() if defaults.get(name) != value}
    versions = {"llmbuilder": corpus["llmbuilder"], **corpus["versions"]}
    return (
        '<div class="origin">'
        "<section><h2>Settings <small>differing from the defaults</small></h2>"
        f"<table>{rows(chosen.items())}</table></section>"
        f"<section><h2>Versions</h2><table>{rows(versions.items())}"
        f"{rows([('fingerprint', corpus['fingerprint'])])}</table></section></div>"
    )
