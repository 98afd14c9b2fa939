"""Texts for language models that condition a picture: the chat template around them, and what is beyond the limit."""

from __future__ import annotations

from typing import Any


def as_chat(tokenizer: Any, text: str, *, thinking: bool) -> str:
    """The text as a user's only message, by the tokenizer's own template."""
    messages = [{"role": "user", "content": text}]
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking)
    )


def beyond(tokenizer: Any, text: str, chat: str, limit: int) -> str:
    """The end of `text` whose tokens lie beyond the first `limit` tokens of `chat`, which holds it; mostly ""."""
    excess = len(tokenizer(chat).input_ids) - limit
    if excess <= 0:
        return ""
    return str(tokenizer.decode(tokenizer(text).input_ids[-excess:])).strip()
