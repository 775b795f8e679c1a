"""Classification of texts, in vLLM's words."""

from typing import Any

from inferd.protocols.http.openai.errors import FieldError
from inferd.protocols.http.texts.rows import ask, check_truncation, parse_texts, usage
from inferd.schemas.texts import ClassifyRequest
from inferd.serving.data_plane import DataPlane


async def classify(
    plane: DataPlane, fields: ClassifyRequest, id: str, created_s: int
) -> dict[str, Any]:
    """The body of the answer; raises FieldError for what cannot be done."""
    for name in ("activation", "use_activation"):
        if getattr(fields, name) is False:
            raise FieldError(
                f"{name}: scores before the model's own activation are not given; leave it out",
                name,
            )
    check_truncation(fields)
    texts = parse_texts(fields.input, "input")
    model = plane.text_model(fields.model, "classification")
    found = await ask(plane, model, texts)
    scores = found[model.output]
    data = [
        {
            "index": index, "label": model.labels[best], "probs": mine.tolist(),
            "num_classes": len(model.labels),
        }
        for index, (mine, best) in enumerate(zip(scores, scores.argmax(1), strict=True))
    ]  # fmt: skip
    return {
        "id": f"classify-{id}", "object": "list", "created": created_s,
        "model": model.served.name, "data": data,
        "usage": usage(found) | {"completion_tokens": 0},
    }  # fmt: skip
