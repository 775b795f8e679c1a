import pytest
from scripted_server import MODELS, events, reply, scripted

from inferd.cli.openai_client import OpenAIServer
from inferd.errors import InferdError

TWO = reply(b'{"data": [{"id": "a"}, {"id": "b"}]}')


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_the_address_may_end_as_other_clients_want_it(path: str) -> None:
    with scripted({"/v1/models": MODELS}) as server:
        assert OpenAIServer(server.url + path).choose_model() == "m"


def test_below_a_path_and_with_a_key() -> None:
    with scripted({"/llm/v1/models": MODELS}) as server:
        assert OpenAIServer(f"{server.url}/llm/v1", "secret").choose_model("m") == "m"
    [(_, headers, _)] = server.asked
    assert headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("answer", "wanted", "message"),
    [
        (TWO, "", "has several models; choose with --model: a, b"),
        (TWO, "c", "has no model 'c'; choose with --model: a, b"),
        (reply(b'{"data": []}'), "", "has no language model that is ready"),
        (reply(b"[]"), "", "does it speak the OpenAI API?"),
        (reply(b"<html>"), "", "did not answer in JSON"),
        (reply(b"{}", "404 Not Found"), "", "has no OpenAI API"),
        (reply(b'{"error": {"message": "who?"}}', "401 Unauthorized"), "", "who?"),
        (reply(b"", "502 Bad Gateway"), "", "answered /v1/models with status 502"),
    ],
)
def test_no_model_says_why(answer: bytes, wanted: str, message: str) -> None:
    with scripted({"/v1/models": answer}) as server, pytest.raises(InferdError, match=message):
        OpenAIServer(server.url).choose_model(wanted)


def test_events_come_one_by_one_until_done() -> None:
    said = b": ping\n\n" + b'data: {"a": 1}\n\ndata:{"a": 2}\r\n\r\ndata: [DONE]\n\ndata: {}\n\n'
    with scripted({"/x": reply(said)}) as server:
        assert list(OpenAIServer(server.url).stream("/x", {})) == [{"a": 1}, {"a": 2}]


def test_an_error_between_events_is_raised() -> None:
    answer = events(b'{"a": 1}', b'{"error": {"message": "the engine ended"}}', b"[DONE]")
    with scripted({"/x": answer}) as server:
        stream = OpenAIServer(server.url).stream("/x", {})
        assert next(stream) == {"a": 1}
        with pytest.raises(InferdError, match="the engine ended"):
            next(stream)


def test_no_server_says_how_to_start_one() -> None:
    with pytest.raises(InferdError, match="start one with: inferd serve MODEL"):
        OpenAIServer("127.0.0.1:1").choose_model()
