"""ChatML, the template of models that come without one: each message between `<|im_start|>` and `<|im_end|>`."""

from __future__ import annotations

from llmbuilder.tokenizer import Tokenizer

BEGIN, END = "<|im_start|>", "<|im_end|>"
_MESSAGES = """{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def chatml_for(tokenizer: Tokenizer) -> str:
    """Return the template for a model with this tokenizer, behind its begin-of-text token if it expects one."""
    return ("{{- bos_token }}\n" if tokenizer.beginning_ids else "") + _MESSAGES
