"""`ConversationDataset`: conversations as training samples, in the place of a `TextDataset`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llmbuilder.conversations.files import LeftOut, conversation_files, read_conversations
from llmbuilder.conversations.forms import Conversation
from llmbuilder.conversations.masking import Masks, Sample, fitted
from llmbuilder.conversations.rows import RowDataset
from llmbuilder.conversations.rules import checked
from llmbuilder.errors import DataError


class ConversationDataset(RowDataset[Conversation]):
    """Conversations as rows of samples, of which the answers are learned.

    `source` is a file of conversations or a folder of such (see `conversations.forms`); everything else is as in
    `RowDataset`.
    """

    kind = "conversation"

    def _find(self, source: str) -> list[Path]:
        files = conversation_files(source)
        if files is None:
            raise DataError(f"{source} holds no conversations")
        return files

    def rows(self) -> Iterator[Conversation | LeftOut]:
        """Yield the conversations that can be learned from, and what holds none."""
        with_calls = self.template.uses_tool_calls
        for found in read_conversations(self._files):
            if isinstance(found, Conversation):
                try:
                    yield checked(found, with_calls=with_calls)
                except DataError as error:
                    yield LeftOut(found.place, str(error))
            else:
                yield found

    def _question_of(self, row: Conversation) -> str:
        return json.dumps([row.messages, row.tools], sort_keys=True)

    def _samples_of(self, row: Conversation, masks: Masks) -> list[Sample]:
        made = masks.samples(row)
        kept = [short for sample in made if (short := fitted(sample, self.block_size)) is not None]
        if not kept:
            raise DataError(f"its question alone fills the window of {self.block_size:,} tokens")
        self.account.shortened += sum(
            len(short.ids) < len(sample.ids) for sample, short in zip(made, kept, strict=False)
        ) + (len(made) - len(kept))
        return kept
