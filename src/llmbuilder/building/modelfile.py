"""The `Modelfile` from which Ollama makes its model: the exported file, and how text is sampled from it."""

from __future__ import annotations

import re
from pathlib import Path

from llmbuilder.config.schema import GenerationConfig
from llmbuilder.files import write_text


def write_modelfile(
    gguf: Path, generation: GenerationConfig, *, context: int, ending: str | None, ability: str = "",
    has_template: bool = False,
) -> Path:  # fmt: skip
    """Write the `Modelfile` beside an exported model and return its path.

    The prompt is given to the model as it is, because the model continues texts and knows no turns of a conversation;
    one that `has_template` for those has it in its file, where Ollama finds it. `context` is the model's window in
    tokens, `ending` its end-of-text token, `ability` a comment.
    """
    stops = [*generation.stop, *([ending] if ending and generation.stop_at_eos else [])]
    parameters = {
        "num_ctx": context,
        "num_predict": generation.max_new_tokens,
        "temperature": generation.temperature if generation.do_sample else 0,
        # Ollama has defaults of its own for what is off here: 0 and 1 switch it off there, too.
        "top_k": generation.top_k or 0,
        "top_p": 1.0 if generation.top_p is None else generation.top_p,
        "min_p": 0.0 if generation.min_p is None else generation.min_p,
        "repeat_penalty": generation.repetition_penalty,
    }
    lines = [
        *([f"# {ability}"] if ability else []),
        f"FROM ./{gguf.name}",
        *([] if has_template else ['TEMPLATE "{{ .Prompt }}"']),
        *(f"PARAMETER {name} {value}" for name, value in parameters.items()),
        *(f"PARAMETER stop {_quoted(stop)}" for stop in stops),
    ]
    path = gguf.with_name("Modelfile")
    write_text(path, "\n".join(lines) + "\n")
    return path


def ollama_name(folder: str | Path) -> str:
    """Return a name that Ollama takes for a model: small letters, digits, points and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", Path(folder).resolve().name.lower()).strip("-.") or "model"


def _quoted(text: str) -> str:
    """Return a value as Ollama reads it: quotes around what stands there as it is, without any escapes."""
    return f'"""{text}"""' if '"' in text else f'"{text}"'
