"""From what a request says to token ids: prompts in all their forms, messages through the model's
chat template. It may run on a thread.
"""

from typing import Any

from inferd.protocols.http.openai.errors import FieldError
from inferd.schemas.openai import ChatFields, GenerationFields
from inferd.serving.served_llm import ServedLLM

Prompt = str | list[int]

MAX_PROMPTS = 1024
"""In one request."""

_EFFORTS = frozenset(("none", "minimal", "low", "medium", "high", "xhigh", "max"))


def parse_prompts(value: Any) -> list[Prompt]:
    """The prompts of a completion: text, token ids, or a list of either. Raises FieldError."""
    if value is None:
        raise FieldError("prompt is required and missing", "prompt")
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], int)):
        value = [value]
    if not isinstance(value, list):
        raise FieldError("prompt must be text, token ids, or a list of either", "prompt")
    if not value:
        raise FieldError("prompt must not be empty", "prompt")
    if len(value) > MAX_PROMPTS:
        raise FieldError(f"prompt has {len(value)} prompts; send at most {MAX_PROMPTS}", "prompt")
    for number, prompt in enumerate(value):
        if not prompt:
            raise FieldError(f"prompt {number} is empty; send at least one token", "prompt")
        if isinstance(prompt, str):
            continue
        if not isinstance(prompt, list) or not all(type(entry) is int for entry in prompt):
            raise FieldError(
                f"prompt {number} must be text or a list of token ids, which are integers",
                "prompt",
            )
    return value


def prompt_tokens(
    llm: ServedLLM, prompt: Prompt, fields: GenerationFields, special: bool, max_tokens: int | None
) -> list[int]:
    """The ids of one prompt, truncated as the request says; `special` is whether text gets the
    model's opening token where the request does not say. Raises InvalidRequest."""
    if isinstance(prompt, str):
        added = special if fields.add_special_tokens is None else fields.add_special_tokens
        prompt = llm.tokenizer.encode(prompt, add_special_tokens=added)
    keep = fields.truncate_prompt_tokens
    if keep is None:
        return prompt
    if keep == -1:
        keep = max(1, llm.max_len - (max_tokens or 1))
    if not 1 <= keep <= llm.max_len:
        raise FieldError(
            f"truncate_prompt_tokens must be from 1 to {llm.max_len}, or -1, got {keep}",
            "truncate_prompt_tokens",
        )
    side = fields.truncation_side or "left"
    if side not in ("left", "right"):
        raise FieldError(f"truncation_side must be left or right, got '{side}'", "truncation_side")
    return prompt[-keep:] if side == "left" else prompt[:keep]


def runs_code(fields: GenerationFields) -> bool:
    """Whether the request brings a program, or values for one, that may run for seconds."""
    return isinstance(fields, ChatFields) and bool(
        fields.chat_template or fields.chat_template_kwargs
    )


def chat_prompt(llm: ServedLLM, fields: ChatFields) -> str:
    """The text that the template makes of the messages; raises InvalidRequest."""
    if not fields.messages:
        raise FieldError("messages is required, and must not be empty", "messages")
    variables = dict(fields.chat_template_kwargs or {})
    effort = fields.reasoning_effort
    if effort is not None:
        if effort not in _EFFORTS:
            known = ", ".join(sorted(_EFFORTS))
            raise FieldError(
                f"reasoning_effort must be one of {known}, got '{effort}'", "reasoning_effort"
            )
        variables.setdefault("reasoning_effort", effort)
        if effort == "none":
            variables.setdefault("enable_thinking", False)
    if fields.documents is not None:
        variables.setdefault("documents", fields.documents)
    variables.setdefault("continue_final_message", bool(fields.continue_final_message))
    # vLLM's default for both is what excludes itself; who continues a message wants no new one.
    opens = fields.add_generation_prompt
    if opens is None:
        opens = not variables["continue_final_message"]
    variables.setdefault("add_generation_prompt", opens)
    return llm.render(fields.messages, fields.tools, fields.chat_template, variables)
