from typing import Any

import pytest

from protocols.http.openai.test_chat import rendered
from protocols.http.openai.toy import MAX_BODY, NAME, Toy, chat_body, error_of, with_toy

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@with_toy()
async def test_models_are_listed_and_found(toy: Toy) -> None:
    listed = (await toy.client.get("/v1/models")).json()
    (card,) = listed["data"]
    assert listed["object"] == "list"
    assert (card["id"], card["object"], card["owned_by"]) == (NAME, "model", "inferd")
    assert card["max_model_len"] == toy.llm.max_len
    assert (await toy.client.get(f"/v1/models/{NAME}")).json() == card
    error = error_of(await toy.client.get("/v1/models/other"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/tokenize", "/detokenize"])
@with_toy()
async def test_an_unknown_model_is_404(toy: Toy, path: str) -> None:
    body = chat_body("x", {"model": "nobody", "tokens": [1]})
    error = error_of(await toy.client.post(path, json=body), 404)
    assert "'nobody' does not exist" in error["message"]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/tokenize", "/detokenize"])
@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400), (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400), (b"", "application/json", 400),
        (b"{}", "text/plain", 415), (b"a=b", "application/x-www-form-urlencoded", 415),
        (b'{"model": 3}', "application/json; charset=utf-8", 400),
        (b'{"messages": ' + b"[" * 5000, "application/json", 400),
    ],
)  # fmt: skip
@with_toy()
async def test_a_bad_body_is_told(
    toy: Toy, path: str, content: bytes, kind: str, status: int
) -> None:
    answer = await toy.client.post(path, content=content, headers={"content-type": kind})
    assert error_of(answer, status)["type"] == "invalid_request_error"


@with_toy()
async def test_a_body_may_be_compressed_and_must_not_grow_too_large(toy: Toy) -> None:
    import gzip

    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    good = gzip.compress(b'{"prompt": [50], "max_tokens": 1, "temperature": 0}')
    assert (await toy.client.post(COMPLETIONS, content=good, headers=headers)).status_code == 200
    bomb = gzip.compress(b'{"prompt": "' + b"a" * MAX_BODY + b'"}')
    error_of(await toy.client.post(COMPLETIONS, content=bomb, headers=headers), 413)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@with_toy()
async def test_generation_needs_post(toy: Toy, path: str) -> None:
    answer = await toy.client.get(path)
    assert error_of(answer, 405)["message"]
    assert answer.headers["allow"] == "POST"


@with_toy()
async def test_what_is_not_there_is_told_as_the_api_does(toy: Toy) -> None:
    error_of(await toy.client.get("/v1/xyzzy"), 404)
    error_of(await toy.client.get("/tokenize"), 405)


@with_toy()
async def test_a_language_model_takes_no_tensors(toy: Toy) -> None:
    body: dict[str, Any] = {"inputs": []}
    answer = await toy.client.post(f"/v2/models/{NAME}/infer", json=body)
    assert answer.status_code == 400
    assert "/v1/chat/completions" in answer.json()["error"]
    for path in ("config", "stats"):
        assert (await toy.client.get(f"/v2/models/{NAME}/{path}")).status_code == 400


@with_toy()
async def test_a_language_model_does_nothing_with_texts_but_go_on(toy: Toy) -> None:
    bodies = {
        "/v1/embeddings": {"input": "x"}, "/rerank": {"query": "x", "documents": ["y"]},
        "/classify": {"input": "x"},
    }  # fmt: skip
    for path, body in bodies.items():
        error = error_of(await toy.post(path, model=NAME, **body), 400)
        assert f"model '{NAME}' is a language model" in error["message"]
        assert "serve an encoder" in error["message"]
        assert "no model that is ready" in error_of(await toy.post(path, **body), 400)["message"]


@with_toy()
async def test_a_language_model_is_seen_by_the_v2_protocol(toy: Toy) -> None:
    (line,) = (await toy.client.post("/v2/repository/index")).json()
    assert (line["name"], line["state"]) == (NAME, "READY")
    metadata = (await toy.client.get(f"/v2/models/{NAME}")).json()
    assert (metadata["platform"], metadata["inputs"]) == ("inferd_llm", [])
    assert (await toy.client.get(f"/v2/models/{NAME}/ready")).status_code == 200
    assert (await toy.client.get("/v2/models/stats")).json() == {"model_stats": []}


@with_toy()
async def test_tokens_of_a_prompt_and_back(toy: Toy) -> None:
    answer = await toy.post("/tokenize", prompt="hello world", return_token_strs=True)
    body = answer.json()
    assert body["tokens"] == toy.ids("hello world", special=True)
    assert (body["count"], body["max_model_len"]) == (len(body["tokens"]), toy.llm.max_len)
    assert body["token_strs"] == [toy.llm.tokenizer.token(i) for i in body["tokens"]]
    bare = (await toy.post("/tokenize", prompt="hello world", add_special_tokens=False)).json()
    assert bare["tokens"] == toy.ids("hello world")
    assert bare["token_strs"] is None
    back = (await toy.post("/detokenize", tokens=bare["tokens"])).json()
    assert back == {"prompt": "hello world"}


@with_toy()
async def test_tokens_of_messages_are_those_that_a_chat_counts(toy: Toy) -> None:
    messages = [{"role": "user", "content": "hello"}]
    body = (await toy.post("/tokenize", messages=messages)).json()
    assert body["tokens"] == toy.ids(rendered("hello"))
    assert body["count"] == (await toy.chat())["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "x", "messages": []}),
        ("/detokenize", {}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": [10**9]}),
        ("/detokenize", {"tokens": "x"}),
    ],
)
@with_toy()
async def test_bad_tokens_are_told(toy: Toy, path: str, body: dict[str, Any]) -> None:
    error_of(await toy.post(path, **body), 400)


@with_toy()
async def test_health_and_version(toy: Toy) -> None:
    answer = await toy.client.get("/health")
    assert (answer.status_code, answer.content) == (200, b"")
    assert "version" in (await toy.client.get("/version")).json()
