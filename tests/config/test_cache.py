import pytest

from inferd.config.cache import LocalOptions, RedisOptions, cache_options
from inferd.errors import ConfigError


def test_without_a_word_there_is_none() -> None:
    assert cache_options(()) is None


def test_a_cache_is_said_in_tritons_form() -> None:
    assert cache_options(["local,size=1048576"]) == LocalOptions(size=1048576)
    assert cache_options(["redis,host=h,port=6379,user=u,password=p"]) == RedisOptions(
        host="h", port=6379, user="u", password="p"
    )
    assert cache_options(["redis,host=h", "redis,port=1,db=2"]) == RedisOptions(
        host="h", port=1, db=2
    )


def test_what_should_not_be_on_a_command_line_may_be_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITONCACHE_REDIS_USERNAME", "u")
    monkeypatch.setenv("TRITONCACHE_REDIS_PASSWORD", "p")
    assert cache_options(["redis,host=h,port=1"]) == RedisOptions(
        host="h", port=1, user="u", password="p"
    )
    said = cache_options(["redis,host=h,port=1,password=mine"])
    assert isinstance(said, RedisOptions)
    assert said.password == "mine"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["disk,size=5"], "unknown cache 'disk'"),
        (["local"], "size"),
        (["local,size=much"], "size"),
        (["local,size=0"], "size"),
        (["local,size"], "'size' is not <key>=<value>"),
        (["local,size=1,size=2"], "'size' twice"),
        (["local,bytes=5"], "bytes"),
        (["local,size=5", "redis,host=h,port=1"], "two caches, local and redis"),
        (["redis,host=h"], "port"),
        (["redis,host=h,port=99999"], "port"),
    ],
)
def test_what_is_wrong_is_named(said: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match="cache_config") as caught:
        cache_options(said)
    assert words in str(caught.value)
