import pytest

from inferd.errors import ConfigError
from inferd.serving.mounts import Mounts

OWN = ("/", "/docs", "/models", "/models/{model}", "/models/{model}/versions/{version}", "/v2/x/y")


@pytest.fixture
def mounts() -> Mounts:
    mounts = Mounts()
    mounts.reserve(OWN)
    return mounts


@pytest.mark.parametrize(
    ("path", "hides"),
    [
        ("/docs", "/docs"), ("/models", "/models"), ("/models/a", "/models/{model}"),
        ("/models/a/versions", "/models/{model}/versions/{version}"),
        ("/models/a/versions/1", "/models/{model}/versions/{version}"),
        ("/v2", "/v2/x/y"), ("/v2/x", "/v2/x/y"),
    ],
)  # fmt: skip
def test_a_route_of_the_server_cannot_be_hidden(mounts: Mounts, path: str, hides: str) -> None:
    with pytest.raises(ConfigError, match="mount of model 'a'") as failure:
        mounts.claim(path, "a")
    assert f"'{path}'" in str(failure.value)
    assert f"'{hides}'" in str(failure.value)
    assert mounts.find(path) == ("", "")


def test_paths_beside_the_servers_are_free(mounts: Mounts) -> None:
    for path in ("/models/a/app", "/docs/mine", "/v2/x/z", "/v2/x/y/z", "/app"):
        mounts.claim(path, "a")
        assert mounts.find(f"{path}/more") == (path, "a")


def test_the_longest_mount_wins(mounts: Mounts) -> None:
    mounts.claim("/a", "outer")
    mounts.claim("/a/b", "inner")
    for path in ("/a", "/a/", "/a/c", "/a/bc", "/a//"):
        assert mounts.find(path) == ("/a", "outer")
    for path in ("/a/b", "/a/b/", "/a/b/c"):
        assert mounts.find(path) == ("/a/b", "inner")
    for path in ("/", "", "/ab", "a", "*"):
        assert mounts.find(path) == ("", "")


def test_a_mount_has_one_owner_until_it_is_given_up(mounts: Mounts) -> None:
    mounts.claim("/a", "one")
    mounts.claim("/a", "one")
    with pytest.raises(ConfigError, match="model 'two': '/a' is the mount of model 'one'"):
        mounts.claim("/a", "two")
    mounts.claim("/b", "one")
    mounts.settle("one", "/b")
    mounts.claim("/a", "two")
    assert mounts.find("/a") == ("/a", "two")
    assert mounts.find("/b") == ("/b", "one")
    mounts.settle("one", "")
    assert mounts.find("/b") == ("", "")


def test_what_another_version_has_given_up_is_taken_again(mounts: Mounts) -> None:
    """A version that fails while another one loads settles for nothing."""
    mounts.claim("/a", "one")
    mounts.settle("one", "")
    mounts.settle("one", "/a")
    assert mounts.find("/a/b") == ("/a", "one")
