"""A tokenizer in GGUF's terms.

Byte-level BPE is llama.cpp's `gpt2` model with one of the pre-tokenizers it knows by name, SentencePiece's BPE its
`llama` model. Character tokenizers use its `rwkv` model, which takes the longest known token at each place (here always
one character) and, unlike the others, assumes no end-of-text token where the vocabulary has none.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from llmbuilder.errors import ExportError
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokenizer.engine_form import EngineForm
from llmbuilder.tokenizer.sentencepiece import BYTES, SPACE

UNREACHABLE = "\\xff"
NO_MERGE = "\x01 \x01"  # of characters that stand for no byte


def tokenizer_fields(tokenizer: Tokenizer) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the names of GGUFWriter's methods and their arguments that describe a tokenizer with such a form."""
    import gguf

    form = _form(tokenizer)
    never_in_text, words = tokenizer.special_ids(), tokenizer.word_ids()
    found, known = tokenizer.tokens(), tokenizer.vocabulary()
    tokens = [_placeholder(index, known) if token is None else token for index, token in enumerate(found)]
    yield "add_tokenizer_model", (form.model,)
    if form.model == "rwkv":
        # That model would find a special token's spelling in ordinary text, so it gets a byte no text has.
        never = never_in_text | set(tokenizer.holes())
        tokens = [UNREACHABLE + token if index in never else _escaped(token) for index, token in enumerate(tokens)]
    elif form.scores is not None:
        yield "add_tokenizer_pre", ("default",)
        yield "add_token_scores", ([form.scores.get(token, 0.0) for token in tokens],)
        yield "add_add_space_prefix", (form.adds_space,)
    else:
        yield "add_tokenizer_pre", (form.pretokenizer,)
        # llama.cpp refuses a file without merges: of a text too short to have any, one that no text has either.
        yield "add_token_merges", ([" ".join(merge) for merge in tokenizer.merges()] or [NO_MERGE],)
    bytes_of = {known[byte] for byte in BYTES} if form.model == "llama" else set()
    types = gguf.TokenType
    kinds = [
        types.UNUSED if token is None
        else types.CONTROL if index in never_in_text
        else types.USER_DEFINED if index in words
        else types.BYTE if index in bytes_of
        else types.NORMAL
        for index, token in enumerate(found)
    ]  # fmt: skip
    yield "add_token_list", (tokens,)
    yield "add_token_types", (kinds,)
    end, special = tokenizer.end_of_text_id, tokenizer.special
    begin = tokenizer.id_of(special.begin)
    # llama.cpp takes the id 11 for what a file leaves out, an ordinary token.
    unknown = tokenizer.id_of(special.unknown) if tokenizer.unknown_id is None else tokenizer.unknown_id
    padding = tokenizer.id_of(special.padding)
    parts = {"bos": end if begin is None else begin, "eos": end, "unk": unknown, "pad": padding}
    for part, number in parts.items():
        if number is not None:
            yield f"add_{part}_token_id", (number,)
    yield "add_add_bos_token", (special.adds_begin,)


def engine_texts(tokenizer: Tokenizer) -> list[str]:
    """Return what llama.cpp writes for each id of a file with `tokenizer_fields`."""
    found, known, form = tokenizer.tokens(), tokenizer.vocabulary(), _form(tokenizer)
    if form.model == "llama":
        return [_piece_text(token) for token in found]
    if form.model == "gpt2":
        return ["" if token is None else tokenizer.decode([index]) for index, token in enumerate(found)]
    texts = [_placeholder(index, known) if token is None else token for index, token in enumerate(found)]
    never = tokenizer.special_ids() | set(tokenizer.holes())
    return ["\ufffd" + text if index in never else text for index, text in enumerate(texts)]


def _form(tokenizer: Tokenizer) -> EngineForm:
    if tokenizer.gguf_form is None:
        raise ExportError(f"a {tokenizer.algorithm} tokenizer has no form in GGUF that llama.cpp would tokenize alike")
    return tokenizer.gguf_form


def _piece_text(token: str | None) -> str:
    if token is None:
        return ""
    return bytes([BYTES.index(token)]).decode("utf-8", "replace") if token in BYTES else token.replace(SPACE, " ")


def _placeholder(index: int, known: Container[str]) -> str:
    """Return a name of its own for an id without a token: every id keeps its row in the file."""
    name = f"[PAD{index}]"
    while name in known:
        name = f"[{name}]"
    return name


def _escaped(character: str) -> str:
    """Write a character's UTF-8 bytes the way llama.cpp's rwkv vocabulary reads them."""
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8"))
