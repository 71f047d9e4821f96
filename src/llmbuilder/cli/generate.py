"""`llmbuilder generate`: text from a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llmbuilder.cli.conversation import chat, converse, show_samples
from llmbuilder.cli.output import Json, Quiet, Set, print_json
from llmbuilder.cli.sources import Sources, plain_sources, show_sources

if TYPE_CHECKING:
    from llmbuilder.config.schema import GenerationConfig
    from llmbuilder.finetuning.switching import Adapters
    from llmbuilder.inference import Generator
    from llmbuilder.retrieval import Passage

app = typer.Typer(help="Generate text.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Generate text."""


@app.command("text")
def text(
    model: str = typer.Option(
        ..., "--model", "-m", help="Model file, GGUF file, run directory or Hugging Face folder."
    ),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Tokenizer folder. Default: the model's own."),
    adapter: list[Path] = typer.Option(
        None,
        "--adapter",
        help="Folder with adapters to lay beside the model's matrices; several with -i, to switch between.",
    ),
    prompt: list[str] = typer.Option(None, "--prompt", "-p", help="Text to continue. May be repeated."),
    prompt_file: Path = typer.Option(None, "--prompt-file", help="UTF-8 file with the text to continue, as it stands."),
    max_new_tokens: int = typer.Option(None, "--max-new-tokens", "-n", help="Tokens to generate at most (100)."),
    temperature: float = typer.Option(None, "--temperature", help="Lower is more predictable (0.8)."),
    top_k: str = typer.Option(None, "--top-k", help="Sample among the k likeliest tokens (50); none: among all."),
    top_p: str = typer.Option(None, "--top-p", help="Sample among the likeliest tokens that reach this mass, or none."),
    min_p: str = typer.Option(None, "--min-p", help="Drop tokens below this share of the likeliest one, or none."),
    repetition_penalty: float = typer.Option(None, "--repetition-penalty", help="Above 1 discourages repetition."),
    num_samples: int = typer.Option(None, "--num-samples", help="Continuations per prompt (1)."),
    stop: list[str] = typer.Option(None, "--stop", help="End before this string. May be repeated."),
    greedy: bool = typer.Option(False, "--greedy", help="Always take the likeliest token."),
    seed: int = typer.Option(None, "--seed", help="Make the sampling repeatable."),
    set_: list[str] = Set,
    config: Path = typer.Option(None, "--config", help="Configuration whose 'generation' and system.device to use."),
    device: str = typer.Option(None, "--device", help="auto, cpu, cuda, mps."),
    interactive: bool = typer.Option(False, "--interactive", "-i", help="Ask for prompts until end of input."),
    as_chat: bool = typer.Option(False, "--chat", help="Prompts are questions, put through the model's chat template."),
    system: str = typer.Option(None, "--system", help="With --chat: what the model is told before the conversation."),
    documents: Path = typer.Option(
        None, "--documents", help="Folder, file or prepared corpus: what is found there for a prompt is put before it."
    ),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Continue a prompt."""
    from llmbuilder.config import load_config
    from llmbuilder.formats.model_places import require_adapter

    given: dict[str, Any] = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "repetition_penalty": repetition_penalty,
        "num_samples": num_samples, "stop": stop or None, "seed": seed, "do_sample": False if greedy else None,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    given |= _filters({"top_k": top_k, "top_p": top_p, "min_p": min_p})
    if interactive and (prompt or prompt_file or as_json):
        instead = "it asks for prompts and shows text: leave out --prompt, --prompt-file and --json"
        raise typer.BadParameter(instead, param_hint="-i")
    if prompt and prompt_file:
        raise typer.BadParameter("--prompt names the text already: leave out one", param_hint="--prompt-file")
    if system is not None and not as_chat:
        raise typer.BadParameter("it begins a conversation: give --chat, too", param_hint="--system")
    if as_chat and not (interactive or prompt or prompt_file):
        raise typer.BadParameter("ask something with --prompt, or give -i", param_hint="--chat")
    if adapter and len(adapter) > 1 and not interactive:
        raise typer.BadParameter("several are switched between in a terminal: give -i", param_hint="--adapter")
    if documents is not None:
        _check_documents(documents, can_be_asked=bool(prompt or prompt_file or (as_chat and interactive)))
    prompts = [_read_prompt(prompt_file)] if prompt_file else prompt or [""]
    loaded = load_config(config, overrides=set_ or [])
    _check(model, tokenizer, device, loaded, set_ or [], given)
    for folder in adapter or []:
        require_adapter(folder)
    from llmbuilder.finetuning.switching import Adapters
    from llmbuilder.inference.generation import generation_settings, load_generator

    settings, place = generation_settings(loaded, given), device or loaded.system.device
    generator = load_generator(model, tokenizer, place)
    adapters = Adapters(generator.model, adapter) if adapter else None
    sources = Sources(documents, loaded.data, generator) if documents is not None else None
    if as_chat:
        _chat(generator, settings, None if interactive else prompts, system, sources, adapters, as_json=as_json)
    elif interactive:
        converse(generator, settings, adapters)
    else:
        _continue(generator, settings, prompts, sources, as_json=as_json)


def _check_documents(documents: Path, *, can_be_asked: bool) -> None:
    from llmbuilder.building.checks import require_documents

    require_documents(documents)
    if not can_be_asked:
        instead = "say with --prompt what to look up there, or ask with --chat -i"
        raise typer.BadParameter(instead, param_hint="--documents")


def _continue(
    generator: Generator, settings: GenerationConfig, prompts: list[str], sources: Sources | None, *, as_json: bool
) -> None:
    """Show how prompts go on, each behind what is found for it."""
    used: list[list[Passage]] = [[] for _ in prompts]
    seen = prompts
    if sources is not None:
        grounded = [generator.ground(one, sources.require(one), settings) for one in prompts]
        seen, used = [text for text, _ in grounded], [passages for _, passages in grounded]
    if len(prompts) == 1 and settings.num_samples == 1 and not as_json:
        pieces = generator.stream(seen[0], settings)
        first = next(pieces, "")  # what cannot be continued is said before anything is shown
        typer.echo(prompts[0] + first, nl=False)
        for piece in pieces:
            typer.echo(piece, nl=False)
        typer.echo("")
        show_sources(used[0])
        return
    _show(prompts, generator.generate(seen, settings), used if sources is not None else None, as_json=as_json)


def _show(
    prompts: list[str], written: list[list[str]], used: list[list[Passage]] | None, *, as_json: bool, between: str = ""
) -> None:
    """Show what was written after prompts, and the passages that each was given with, if any were looked for."""
    if as_json:
        sources = [{}] * len(prompts) if used is None else [plain_sources(passages) for passages in used]
        shown = zip(prompts, written, sources, strict=True)
        print_json([{"prompt": prompt, "continuations": texts, **more} for prompt, texts, more in shown])
        return
    for number, texts in enumerate(written):
        show_samples(prompts[number] + between, texts)
        show_sources(used[number] if used is not None else [])


def _chat(
    generator: Generator,
    settings: GenerationConfig,
    questions: list[str] | None,
    system: str | None,
    sources: Sources | None,
    adapters: Adapters | None,
    *,
    as_json: bool,
) -> None:
    """Answer questions, each in a conversation of its own; None asks for them."""
    from llmbuilder.inference import Chat

    conversation = Chat(generator, system)
    try:
        if questions is None:
            chat(conversation, settings, sources, adapters)
            return
        found = [sources.require(question) if sources is not None else [] for question in questions]
        if len(questions) == 1 and settings.num_samples == 1 and not as_json:
            for piece in conversation.answer(questions[0], settings, found[0]):
                typer.echo(piece, nl=False)
            typer.echo("")
            show_sources(conversation.sources)
            return
        answers, used = [], []
        for question, passages in zip(questions, found, strict=True):
            answers.append(conversation.answers(question, settings, passages))
            used.append(conversation.sources)
    finally:
        conversation.close()
    _show(questions, answers, used if sources is not None else None, as_json=as_json, between="\n")


def _check(
    model: str, tokenizer: str | None, device: str | None, loaded: Any, overrides: list[str], given: dict[str, Any]
) -> None:
    """Find what would fail later."""
    from llmbuilder.building.checks import require_asked_device, require_model_and_tokenizer
    from llmbuilder.config.in_force import require_taken
    from llmbuilder.config.validation import require_in_range
    from llmbuilder.machine import require_device

    options = {f"generation.{key}": f"--{key.replace('_', '-')}" for key in given}
    require_taken("generate text", overrides, loaded, replaced={**options, "system.device": device and "--device"})
    require_model_and_tokenizer(model, tokenizer)
    if device is not None:
        require_device(device, "--device")
    else:
        require_asked_device(loaded)
    require_in_range(loaded)


def _read_prompt(path: Path) -> str:
    from llmbuilder.errors import GenerationError

    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise GenerationError(f"there is no prompt file {path}: name a text file with --prompt-file") from None
    except UnicodeDecodeError as error:
        raise GenerationError(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}): save it as such"
        ) from None
    except OSError as error:
        raise GenerationError(f"{path} cannot be read as a prompt: {error.strerror or error}") from None


def _filters(given: dict[str, str | None]) -> dict[str, float | int | str]:
    """Return the filters that were named, as a configuration would say it: none, or 0, switches one off."""
    named = {key: text for key, text in given.items() if text is not None}
    return {key: text if text.lower() == "none" else _number(key, text) for key, text in named.items()}


def _number(key: str, text: str) -> float | int:
    try:
        return int(text) if key == "top_k" else float(text)
    except ValueError:
        hint = f"--{key.replace('_', '-')}"
        raise typer.BadParameter(f"{text!r} is neither a number nor none", param_hint=hint) from None
