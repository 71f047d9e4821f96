"""The chat template of a model: its own, or ChatML with the tokens that this needs."""

from __future__ import annotations

import logging

from llmbuilder.conversations.chatml import BEGIN, END, chatml_for
from llmbuilder.conversations.masking import Masks
from llmbuilder.conversations.template import ChatTemplate, template_from
from llmbuilder.errors import DataError, TokenizerError
from llmbuilder.model import LanguageModel
from llmbuilder.model.growing import add_rows
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokenizer.growing import ending_with, with_special_tokens

logger = logging.getLogger("llmbuilder")


def prepare_for_chat(model: LanguageModel) -> tuple[ChatTemplate, bool]:
    """Give a model what conversations need, and return its template and whether it got new tokens for it.

    Without a template of its own it gets ChatML; new tokens start at the mean of the embedding. Generation ends, from
    then on, at the token with which the template ends an answer. Raises DataError if the template cannot be used.
    """
    template, has_new = template_from(model.metadata, _tokenizer(model)), False
    if template is None:
        has_new = _give_chatml(model)
        template = template_from(model.metadata, _tokenizer(model))
        assert template is not None
    with template:
        try:
            turn_end = Masks(template).turn_end
        except DataError as error:
            raise DataError(f"this model cannot learn conversations: {error}") from error
    name = template.tokenizer.tokens()[turn_end]
    assert name is not None
    model.tokenizer = ending_with(template.tokenizer, name)
    return ChatTemplate(template.source, model.tokenizer, with_tools=template.with_tools), has_new


def _give_chatml(model: LanguageModel) -> bool:
    """Return whether the model got new tokens."""
    tokenizer = _tokenizer(model)
    missing = [name for name in (BEGIN, END) if tokenizer.id_of(name) is None]
    logger.warning(
        "the model has no chat template: it learns conversations in ChatML" +
        (f", and gets the tokens {' and '.join(missing)} for it" if missing else "")
    )  # fmt: skip
    if missing:
        rows = len(tokenizer)
        tokenizer = with_special_tokens(tokenizer, missing)
        add_rows(model, range(rows, len(tokenizer)), rows)
    model.tokenizer = tokenizer
    model.metadata = {**model.metadata, "chat_template": chatml_for(tokenizer)}
    return bool(missing)


def _tokenizer(model: LanguageModel) -> Tokenizer:
    if model.tokenizer is None:
        raise TokenizerError("this model comes without a tokenizer: name one with it")
    return model.tokenizer
