"""The text that tokens add to a prompt, as it grows.

Decoders look at neighbours: at the start of a text they drop a blank, between words they put one, and bytes become
characters together. So prompt and continuation are decoded as one, and the difference is the continuation. As a token
changes nothing far before it, a window of the last tokens is decoded for each new one, not the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmbuilder.tokenizer import Tokenizer

_REPLACEMENT = "\ufffd"  # what decoding shows for a character whose bytes are not all there yet
_LONGEST_WAIT = 64  # tokens; so many that give no character are bytes that are none


class Continuation:
    """What the tokens after a prompt say, ending before a stop string."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._window = list(prompt)  # the last tokens that have a text, and those that wait for one behind them
        self._known = len(self._window)
        self._known_text = tokenizer.decode(self._window)
        self._text = ""
        self._taken = 0
        self.stopped = False

    def add(self, token: int) -> None:
        """Take another token, unless a stop string was found."""
        if self.stopped:
            return
        self._window.append(token)
        whole = self._tokenizer.decode(self._window)
        waiting = len(self._window) - self._known
        if not whole.endswith(_REPLACEMENT) or waiting > _LONGEST_WAIT:
            self._settle(whole)

    def take(self) -> str:
        """Return what is new and final: no unfinished character, nothing that could begin a stop string."""
        end = len(self._text)
        if not self.stopped:
            for text in self._stop:
                end = min(end, *(len(self._text) - n for n in range(len(text)) if self._text.endswith(text[:n])))
        return self._take_until(end)

    def finish(self) -> str:
        """Return what `take` has not returned yet; no token follows."""
        self._settle_rest()
        return self._take_until(len(self._text))

    def whole(self) -> str:
        """Return all of it; no token follows."""
        self._settle_rest()
        return self._text

    def _take_until(self, end: int) -> str:
        piece = self._text[self._taken : end]
        self._taken = max(self._taken, end)
        return piece

    def _settle_rest(self) -> None:
        if not self.stopped and len(self._window) > self._known:
            self._settle(self._tokenizer.decode(self._window))

    def _settle(self, whole: str) -> None:
        """Add what the window says beyond its known part, which the waiting tokens become."""
        added = whole[len(self._known_text) :]
        self._window = self._window[self._known :]
        self._known = len(self._window)
        self._known_text = self._tokenizer.decode(self._window)
        searched = len(self._text)
        self._text += added
        for text in self._stop:
            at = self._text.find(text, max(0, searched - len(text) + 1))
            if at >= 0:
                self._text = self._text[:at]
                self.stopped = True
