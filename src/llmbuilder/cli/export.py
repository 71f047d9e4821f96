"""`llmbuilder export`: models for other engines."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from llmbuilder.cli.completion import quantizations
from llmbuilder.cli.output import Json, Overwrite, Quiet, print_json, say

app = typer.Typer(help="Export models for other engines.", no_args_is_help=True)
_PROBES = [
    "The quick brown fox jumps over the lazy dog.",
    "def add(a, b):\n    return a + b\n",
    "Naïve café, déjà vu: 12345 tokens,  two spaces and\ttabs.",
]


@app.command("gguf")
def gguf(
    model: str = typer.Argument(
        ..., metavar="MODEL", help="Model file, GGUF file, run directory or Hugging Face folder."
    ),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="File to write, such as model.gguf."),
    quantization: str = typer.Option(
        "f16", "--quantization", "-q", help="f32 f16 bf16 q8_0 q5_1 q5_0 q4_1 q4_0", autocompletion=quantizations
    ),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Tokenizer folder. Default: the model's own."),
    verify: bool = typer.Option(True, "--verify/--no-verify", help="Open the file in llama.cpp and compare."),
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Write a GGUF file for llama.cpp and Ollama."""
    from llmbuilder.building.checks import check_output, require_model_and_tokenizer
    from llmbuilder.errors import ExportError
    from llmbuilder.formats.quantizations import require_quantization

    require_quantization(quantization)
    require_model_and_tokenizer(model, tokenizer)
    if output.is_dir():
        raise ExportError(f"{output} is a folder: name a file to write, such as {output / 'model.gguf'}")
    check_output(output, [model], overwrite=overwrite, error=ExportError)
    from llmbuilder.export import GGUFVerification, export_gguf, verify_gguf
    from llmbuilder.export.verification import llamacpp_is_installed
    from llmbuilder.inference.generation import load_generator

    generator = load_generator(model, tokenizer, "cpu")
    checked: list[GGUFVerification] = []

    def check(file: Path) -> None:
        texts = [text for text in map(generator.tokenizer.keep_known, _PROBES) if text]
        checked.append(verify_gguf(file, generator.model, texts, tokenizer=generator.tokenizer))

    installed = llamacpp_is_installed()
    result = export_gguf(
        generator.model, output, quantization, tokenizer=generator.tokenizer, overwrite=overwrite,
        check=check if verify and installed else None,
    )  # fmt: skip
    if verify and not installed:
        say("not checked in llama.cpp: pip install 'llmbuilder[verify]'")
    if as_json:
        print_json({**asdict(result), "verification": asdict(checked[0]) if checked else None})
        return
    for name, reason in result.fallbacks.items():
        say(f"{name} is {reason}")
    typer.echo(f"{output}: {quantization}, {result.bytes / 1e6:.1f} MB, architecture {result.architecture}")
    for found in checked:
        typer.echo(f"llama.cpp opens it: {found.summary()}")


@app.command("adapter")
def adapter(
    base: str = typer.Argument(..., metavar="MODEL", help="Model that the adapters belong to."),
    folder: Path = typer.Argument(..., metavar="ADAPTER", help="Folder with adapters, such as RUN/adapter."),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="File to write, such as adapter.gguf."),
    verify: bool = typer.Option(True, "--verify/--no-verify", help="Open both files in llama.cpp and compare."),
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Write adapters alone as a GGUF file, for llama.cpp's --lora."""
    from llmbuilder.building.checks import check_output
    from llmbuilder.errors import ExportError
    from llmbuilder.formats.model_places import require_adapter, require_model

    require_model(base)
    require_adapter(folder)
    if output.is_dir():
        raise ExportError(f"{output} is a folder: name a file to write, such as {output / 'adapter.gguf'}")
    check_output(output, [base, folder], overwrite=overwrite, error=ExportError)
    from llmbuilder.export import export_gguf_adapter
    from llmbuilder.export.verification import llamacpp_is_installed

    installed = llamacpp_is_installed()
    texts = _PROBES if verify and installed else []
    found = export_gguf_adapter(base, folder, output, texts=texts, overwrite=overwrite)
    if verify and not installed:
        say("not checked in llama.cpp: pip install 'llmbuilder[verify]'")
    size = output.stat().st_size
    if as_json:
        print_json({"path": str(output), "bytes": size, "verification": asdict(found) if found else None})
        return
    typer.echo(f"{output}: {size / 1e6:.1f} MB, for llama.cpp's --lora")
    if found is not None:
        typer.echo(f"llama.cpp opens it: {found.summary()}")


@app.command("hf")
def hf(
    model: str = typer.Argument(..., metavar="MODEL", help="Model file or run directory."),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="Folder to write."),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Tokenizer folder. Default: the model's own."),
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Write a Hugging Face folder that transformers opens."""
    from llmbuilder.building.checks import check_output, require_model_and_tokenizer
    from llmbuilder.errors import ExportError

    require_model_and_tokenizer(model, tokenizer)
    if output.is_file():
        raise ExportError(f"{output} is a file: name a folder to write")
    check_output(output, [model], overwrite=overwrite, error=ExportError)
    from llmbuilder.export import export_huggingface

    path = export_huggingface(model, output, tokenizer=tokenizer, overwrite=overwrite)
    print_json({"path": str(path)}) if as_json else typer.echo(str(path))
