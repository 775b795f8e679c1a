import asyncio
from typing import Any

from fakes import clock
from inferd.protocols.http.event_stream import PING_S
from protocols.http.openai.toy import NAME, Toy, error_of, events, strict, with_toy

PATH = "/v1/completions"


def asked(**more: Any) -> dict[str, Any]:
    return {"model": NAME, "prompt": [50], "temperature": 0, "max_tokens": 8} | more


async def until(condition: Any) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(10.0):
        while not condition():
            await asyncio.sleep(0)


@with_toy()
async def test_a_stream_is_one_and_its_head_says_so(toy: Toy) -> None:
    answer = await toy.client.post(PATH, json=asked(stream=True), headers={"x-request-id": "r1"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-request-id"] == "r1"
    assert len(events(answer.content)) == 8
    again = await toy.client.post(PATH, json=asked(stream=True))  # on the same connection
    assert len(events(again.content)) == 8


@with_toy()
async def test_a_client_that_leaves_ends_its_request_and_frees_its_blocks(toy: Toy) -> None:
    toy.runner.after = 3
    async with toy.client.stream("POST", PATH, json=asked(stream=True, max_tokens=100)) as answer:
        await anext(answer.aiter_bytes())
        assert toy.llm.in_flight() == 1
    await until(lambda: toy.llm.in_flight() == 0)
    toy.runner.gate.set()
    await until(lambda: toy.llm.gauges().running == 0)
    assert toy.llm.gauges().kv_usage == 0.0
    assert toy.llm.statistics.finished["abort"] == 1
    assert len(toy.runner.batches) < 20


@with_toy()
async def test_a_client_that_leaves_before_the_answer_ends_its_request_too(toy: Toy) -> None:
    toy.runner.gate.clear()
    task = asyncio.create_task(toy.client.post(PATH, json=asked(max_tokens=100)))
    await until(lambda: toy.runner.begun == 1)
    task.cancel()
    await until(lambda: toy.llm.in_flight() == 0)
    toy.runner.gate.set()
    await toy.complete([50], max_tokens=1)  # behind the end of the other
    assert toy.llm.gauges().running == 0
    assert toy.llm.gauges().kv_usage == 0.0


@with_toy()
async def test_an_engine_that_ends_is_an_error_event_and_comes_back_by_itself(toy: Toy) -> None:
    toy.runner.after = 3
    async with toy.client.stream("POST", PATH, json=asked(stream=True)) as answer:
        pieces = answer.aiter_bytes()
        content = await anext(pieces)
        toy.runner.broken = True
        toy.runner.gate.set()
        content += b"".join([piece async for piece in pieces])
    *_, last = events(content)
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert (last["error"]["code"], last["error"]["param"]) == ("engine_dead", None)
    await until(lambda: not toy.llm.trouble)
    assert toy.loads == 2
    assert (await toy.complete([50]))["choices"]


@with_toy()
async def test_an_engine_that_ends_before_the_first_token_is_503_in_json(toy: Toy) -> None:
    toy.runner.broken = True
    answer = await toy.client.post(PATH, json=asked(stream=True))
    error = error_of(answer, 503)
    assert error["code"] == "engine_dead"
    assert answer.headers["retry-after"]
    assert toy.llm.statistics.finished["error"] == 1


@with_toy()
async def test_a_dead_engine_makes_the_server_unready(toy: Toy) -> None:
    toy.manager.wanted.add(NAME)
    assert toy.plane.ready()
    assert (await toy.client.get("/health")).status_code == 200
    assert toy.model._engine is not None
    toy.model._engine._loaded = False
    assert not toy.plane.ready()
    assert (await toy.client.get("/health")).status_code == 503
    (status,) = toy.manager.index()
    assert (status.state.value, "started again" in status.reason) == ("UNAVAILABLE", True)
    error_of(await toy.client.post(PATH, json=asked()), 503)
    toy.model._engine._loaded = True
    assert toy.plane.ready()


@with_toy(max_num_queued_reqs=1, max_num_seqs=1)
async def test_a_full_queue_is_429_and_says_when_to_come_back(toy: Toy) -> None:
    toy.runner.gate.clear()
    first = asyncio.create_task(toy.client.post(PATH, json=asked()))
    await until(lambda: toy.runner.begun == 1)
    second = asyncio.create_task(toy.client.post(PATH, json=asked(stream=True)))
    await until(lambda: toy.llm.in_flight() == 2)
    third = asyncio.create_task(toy.client.post(PATH, json=asked(stream=True)))
    await until(lambda: toy.llm.in_flight() == 3)
    toy.runner.gate.set()
    answer = await third
    error = error_of(answer, 429)
    assert error["code"] == "rate_limit_exceeded"
    assert int(answer.headers["retry-after"]) >= 1
    assert (await first).status_code == (await second).status_code == 200
    assert toy.llm.statistics.finished == {"stop": 0, "length": 2, "abort": 0, "error": 0}


@with_toy()
async def test_a_stream_that_is_silent_says_that_it_is_alive(toy: Toy) -> None:
    toy.runner.gate.clear()
    task = asyncio.create_task(toy.client.post(PATH, json=asked(stream=True)))
    await until(lambda: toy.runner.begun == 1)
    for _ in range(2):
        await clock().pass_time(PING_S + 1)
    toy.runner.broken = True
    toy.runner.gate.set()
    answer = await task
    assert answer.content.count(b": still working\n\n") == 2
    (only,) = events(answer.content)  # too late for a status
    assert only["error"]["code"] == "engine_dead"


@with_toy()
async def test_an_answer_is_whole_although_its_client_asks_again_at_once(toy: Toy) -> None:
    """Requests on one connection are answered in order."""
    reader, writer = await asyncio.open_connection(*toy.address)
    body = b'{"prompt": [50], "temperature": 0, "max_tokens": 2, "stream": true}'
    head = b"POST /v1/completions HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(body)
    close = head.replace(b"host: h", b"host: h\r\nconnection: close")
    writer.write(head + body + close + body)
    async with asyncio.timeout(10.0):
        content = await reader.read()
    assert content.count(b"HTTP/1.1 200 OK") == 2
    assert content.count(b"data: [DONE]") == 2
    writer.close()


@with_toy()
async def test_a_server_that_drains_takes_nothing_new(toy: Toy) -> None:
    toy.plane.draining = True
    answer = await toy.client.post(PATH, json=asked())
    assert "shutting down" in error_of(answer, 503)["message"]


@with_toy()
async def test_what_is_left_of_a_character_waits_for_the_rest(toy: Toy) -> None:
    """Byte by byte, nothing but whole characters is sent."""
    ids = [toy.llm.tokenizer.encode("€", add_special_tokens=False)[0]]
    chunks = await toy.stream(PATH, **asked(prompt=ids, max_tokens=40))
    joined = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    whole = await toy.complete(ids, max_tokens=40)
    assert joined == whole["choices"][0]["text"]


@with_toy()
async def test_a_large_body_is_read_on_a_thread(toy: Toy) -> None:
    prompts = [[5, 6, 7]] * 3
    body = asked(prompt=prompts, user="x" * 40_000)
    answer = await toy.client.post(PATH, json=body)
    assert len(strict(answer.content)["choices"]) == 3
