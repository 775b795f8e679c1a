"""How a chat is written for this model, and questions to the answers that the corpus has.

It refuses to know tokens; the special ones are text here.
"""

import random
from collections.abc import Sequence

from examples.tiny_llama.corpus import Entry, Kind

BEGIN, END = "<|begin|>", "<|end|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = (BEGIN, END, SYSTEM, USER, ASSISTANT)

TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' ~ message['role'] ~ '|>\\n' ~ message['content'] | trim ~ '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""What `render` does, for whoever serves the model."""

QUESTIONS: dict[Kind, tuple[str, ...]] = {
    "topic": ("What is {}?", "Tell me about {}.", "Explain {}.", "How does {} work?"),
    "section": ("Tell me about {}.", "Explain {}.", "What about {}?"),
    "method": ("What does {} do?", "What is {}?", "Tell me about {}.", "How do I use {}?"),
    "module": ("What is the {} module?", "What is {}?", "Tell me about the {} module."),
    "class": ("What is {}?", "Tell me about {}.", "Explain {}.", "What is {} for?"),
    "function": ("What does {} do?", "What is {}?", "Tell me about {}.", "How do I use {}?"),
    "greeting": ("{}",),
}
GREETINGS = {
    "Hello!": "Hello! Ask me about Python, for example: What is the `with` statement?",
    "Hi": "Hi! I know a little about Python. Ask me, for example: What does `str.join` do?",
    "Who are you?": "I am a very small language model. I was trained on Python's documentation.",
    "What can you do?": "I answer questions about Python in the words of its documentation.",
    "Thank you!": "You are welcome. Is there anything else about Python?",
}
SYSTEM_TEXTS = (
    "You answer questions about Python.",
    "You are a helpful assistant.",
    "You know the Python language reference.",
    "Answer briefly.",
)
SECOND_TURN = 0.3
WITH_SYSTEM = 0.25
WITHOUT_TICKS = 0.3

Message = dict[str, str]


def render(messages: Sequence[Message]) -> str:
    """A whole chat as the model reads it."""
    turns = (f"<|{m['role']}|>\n{m['content'].strip()}{END}\n" for m in messages)
    return BEGIN + "".join(turns)


def document(text: str) -> str:
    """A text by itself, from its first word to its last."""
    return BEGIN + text.strip() + END


def conversation(entries: Sequence[Entry], rng: random.Random) -> list[Message]:
    """A chat that asks for each of the entries, sometimes with a system message."""
    messages = []
    if rng.random() < WITH_SYSTEM:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_TEXTS)})
    for entry in entries:
        messages.append({"role": "user", "content": question(entry, rng)})
        messages.append({"role": "assistant", "content": answer(entry)})
    return messages


def question(entry: Entry, rng: random.Random) -> str:
    """One of the ways to ask for an entry."""
    name = rng.choice(spellings(entry))
    asked = rng.choice(QUESTIONS[entry.kind]).format(name)
    return asked.replace("`", "") if rng.random() < WITHOUT_TICKS else asked


def answer(entry: Entry) -> str:
    """What Python says of the entry, after its name, unless it begins with that anyway."""
    spelled = spellings(entry)
    known = any(name.lower() in entry.text[:60].lower() for name in spelled)
    if entry.kind == "greeting" or known:
        return entry.text
    return f"{spelled[0][0].upper()}{spelled[0][1:]}: {entry.text}"


def spellings(entry: Entry) -> tuple[str, ...]:
    """How one writes the entry's name: `str.join`; the `with` statement, or `with` for short."""
    if entry.kind == "greeting":
        return (entry.name,)
    if entry.kind not in ("topic", "section"):
        return (f"`{entry.name}`",)
    quoted = entry.name.split("`")[1::2]
    return (entry.name, f"`{quoted[0]}`") if len(quoted) == 1 else (entry.name,)


def greetings() -> list[Entry]:
    """Small talk, for those who begin with it."""
    return [Entry(said, "greeting", text) for said, text in GREETINGS.items()]
