"""Chat templates with the traits of those that other people write, each for a few tokens of its own."""

from __future__ import annotations

from dataclasses import replace

from llmbuilder.conversations.template import ChatTemplate
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokenizer.growing import with_special_tokens

MARKS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "[I]", "[/I]", "<|call|>", "<think>", "</think>", "<|user|>"]

# A system prompt of its own, roles as they are, tools and what is called.
CHATML_TOOLS = """{%- if tools %}{{- '<|im_start|>system\\n' }}{% for tool in tools %}{{ tool | tojson }}
{% endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content %}{{- message.content }}{%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n{"name": "' + call.function.name + '", "arguments": ' }}{{- call.function.arguments | tojson }}{{- '}' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
# Begins anew at each exchange, trims, has the system prompt inside the first question, asks for no answer's head.
INSTRUCT = """{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content %}{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must take turns') }}{%- endif %}
    {%- if message.role == 'user' %}
        {{- bos_token + '[I] ' }}{%- if loop.first and system %}{{- system + '\\n\\n' }}{%- endif %}
        {{- message.content | trim + ' [/I]' }}
    {%- else %}{{- ' ' + message.content | trim + ' ' + eos_token }}{%- endif %}
{%- endfor %}"""
# Keeps the reasoning of the last answer only, as models that think do.
THINKING = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and loop.last %}{{- '<think>' + (message.reasoning_content or '') + '</think>' }}{%- endif %}
    {{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
# Opens a reasoning in the head of the answer that it asks for, and writes none.
OPENED = """{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""
# Closes every text that asks for nothing, and ends a call of tools otherwise than an answer.
CLOSED = """{%- for message in messages %}
    {{- '<|user|>' + message.role + ':\\n' }}
    {%- if message.tool_calls %}{{- message.tool_calls[0].function.name + '<|call|>' }}
    {%- else %}{{- message.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|user|>assistant:\\n' }}{%- else %}{{- eos_token }}{%- endif %}"""
# Says itself what is generated, without the token that ends it.
MARKED = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}{% generation %}{{- message.content }}{% endgeneration %}
    {%- else %}{{- message.content }}{%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
ALL = {"tools": CHATML_TOOLS, "instruct": INSTRUCT, "thinking": THINKING, "opened": OPENED, "closed": CLOSED,
       "marked": MARKED}  # fmt: skip


def marked_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer with the tokens that these templates name."""
    grown = with_special_tokens(tokenizer, MARKS)
    return Tokenizer(grown._backend, replace(grown.special, begin="<s>", end="</s>"))


def template(source: str, tokenizer: Tokenizer, seconds: float = 20.0) -> ChatTemplate:
    return ChatTemplate(source, marked_tokenizer(tokenizer), seconds=seconds)
