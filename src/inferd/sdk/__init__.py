"""What a model author imports, and what brings such a model to life.

A class is read into a Signature, its runs are batches of tensors. The room knows no process, no
socket and no protocol, and needs numpy and msgspec only: it also runs inside a model's own
environment. pandas, PIL and pydantic are used where the author's annotations name them.
"""

from inferd.sdk.annotations import Field, Shape
from inferd.sdk.ask import Ask
from inferd.sdk.call import Call, Joined, Outcome
from inferd.sdk.card import ModelCard
from inferd.sdk.depends import depends
from inferd.sdk.finder import find_model_class
from inferd.sdk.handle import Handle
from inferd.sdk.model import Model
from inferd.sdk.options import ModelOptions
from inferd.sdk.runtime import ModelRuntime
from inferd.sdk.session import Session

__all__ = [
    "Ask",
    "Call",
    "Field",
    "Handle",
    "Joined",
    "Model",
    "ModelCard",
    "ModelOptions",
    "ModelRuntime",
    "Outcome",
    "Session",
    "Shape",
    "depends",
    "find_model_class",
]
