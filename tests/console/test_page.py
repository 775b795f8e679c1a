"""The page at `/`, in a browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from console.browser import CHROMIUM, Page, chromium, new_page
from console.site import Site
from e2e.harness import RunningServer
from models import mlp, write_model
from tiny_llama import write_tiny_llama

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"
)

SAID = "document.querySelector('.said')?.innerText"
RUN = "document.querySelector('.try .primary').click()"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with chromium(tmp_path_factory.mktemp("profile")) as port:
        yield port


@pytest.fixture
def page(browser: int) -> Iterator[Page]:
    with new_page(browser) as page:
        page.window(1200, 800)
        yield page


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site().running() as site:
        yield site


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a network, a language model, and a model that cannot be loaded."""
    root = tmp_path_factory.mktemp("few")
    write_model(root / "m", "mlp", mlp(), {"max_batch_size": 8})
    write_model(root / "m", "broken", b"no model")
    write_tiny_llama(root / "m" / "llama")
    options = ("--dtype", "float32", "--isolation", "thread")
    server = RunningServer(root / "server.log", root / "m", *options)
    yield server
    server.stop()


def put(page: Page, name: str, value: str) -> None:
    """Fill a field as a person would."""
    page.run(
        f"(() => {{ const f = document.getElementById('field-{name}'); f.value = "
        f"{json.dumps(value)}; f.dispatchEvent(new Event('input')); }})()"
    )


def test_models_are_listed_and_one_that_failed_says_why(few: RunningServer, page: Page) -> None:
    page.open(few.url)
    page.until("document.querySelectorAll('#models a').length === 3")
    assert "2 of 3 ready" in page.text()
    page.run("location.hash = '#/broken'")
    reason = page.until("document.querySelector('main .banner')?.innerText")
    assert "model" in str(reason).lower()
    assert page.errors == []


def test_a_tensor_is_filled_in_and_answered(few: RunningServer, page: Page) -> None:
    page.open(f"{few.url}/#/mlp")
    page.until("document.getElementById('field-x')")
    assert len(json.loads(page.run("document.getElementById('field-x').value"))) == 16
    page.run("document.getElementById('field-x').focus()")
    page.press("Enter", modifiers=2)
    page.until("document.querySelectorAll('.bars li').length === 3")
    assert "answered in" in page.run(SAID)
    assert page.errors == []


def test_what_is_wrong_is_said_at_its_field(few: RunningServer, page: Page) -> None:
    page.open(f"{few.url}/#/mlp")
    page.until("document.getElementById('field-x')")
    put(page, "x", "[1, 2")
    page.run(RUN)
    assert "not JSON" in page.until("document.querySelector('.field.wrong .problem')?.innerText")
    put(page, "x", "[1, 2]")
    page.run(RUN)
    assert "expected a list of 16 numbers" in page.until(
        "document.querySelector('.banner')?.innerText"
    )
    assert "expected a list of 16 numbers" in page.run(
        "document.querySelector('.field.wrong .problem').innerText"
    )


def test_a_conversation_comes_word_by_word(few: RunningServer, page: Page) -> None:
    page.open(f"{few.url}/#/llama")
    page.until("document.getElementById('chat-input')")
    page.run("document.getElementById('chat-most').value = '12'")
    page.run("document.getElementById('chat-input').focus()")
    page.type("Hello!")
    page.press("Enter")
    page.until("/tokens/.test(document.querySelector('.message.assistant .hint')?.innerText)")
    assert page.run("document.querySelector('.message.user p').innerText") == "Hello!"
    assert page.run("document.querySelector('.message.assistant p').innerText.length") > 0
    assert page.errors == []


def test_a_picture_is_chosen_shown_and_sent(site: Site, page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "orange").save(tmp_path / "orange.png")
    page.open(f"{site.url}/#/picture")
    page.until("document.getElementById('field-image')")
    page.run(RUN)
    assert page.until("document.querySelector('.problem')?.innerText") == "choose a picture"
    page.choose_file("#field-image", tmp_path / "orange.png")
    page.until("document.querySelector('.preview').naturalWidth === 40")
    page.run(RUN)
    page.until("document.querySelector('.picture')?.naturalWidth === 40")
    assert page.errors == []


def test_a_picture_can_be_dropped(site: Site, page: Page) -> None:
    page.open(f"{site.url}/#/picture")
    page.until("document.querySelector('.drop')")
    page.run(
        """(async () => {
        const canvas = new OffscreenCanvas(7, 5); canvas.getContext('2d').fillRect(0, 0, 7, 5);
        const data = new DataTransfer();
        data.items.add(new File([await canvas.convertToBlob()], 'dropped.png'));
        document.querySelector('.drop').dispatchEvent(
            new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
        })()"""
    )
    page.until("document.querySelector('.preview').naturalWidth === 7")
    assert "dropped.png" in page.text()
    page.run(RUN)
    page.until("document.querySelector('.picture')?.naturalWidth === 7")


def test_a_stream_appears_as_it_comes(site: Site, page: Page) -> None:
    page.open(f"{site.url}/#/story")
    page.until("document.getElementById('field-about')")
    put(page, "about", "a frog")
    page.run(RUN)
    page.until("document.querySelector('.flow')?.textContent === 'Once '")
    assert page.run("document.querySelector('.try .primary').innerText") == "Stop"
    site.go_on()
    page.until("document.querySelector('.flow').textContent === 'Once upon a time.'")
    page.until("/4 results/.test(document.querySelector('.took').innerText)")
    assert page.errors == []


def test_every_kind_of_argument_has_its_field(site: Site, page: Page) -> None:
    page.open(f"{site.url}/#/options")
    page.until("document.getElementById('field-more')")
    kinds = page.run(
        "Object.fromEntries([...document.querySelectorAll('.field [id^=field-]')]"
        ".filter(f => f.type).map(f => [f.id.slice(6), f.type]))"
    )
    assert kinds == {
        "title": "textarea", "tone": "select-one", "count": "number", "ratio": "number",
        "loud": "select-one", "more": "textarea", "style": "select-one",
    }  # fmt: skip
    put(page, "title", "<b>Größe</b>")
    put(page, "tone", '"stern"')
    put(page, "count", "3")
    put(page, "ratio", "0.25")
    put(page, "loud", "false")
    put(page, "style", '"ink"')
    page.run(RUN)
    page.until("document.querySelectorAll('.result').length === 7")
    said = page.run(SAID)
    for value in ("<b>Größe</b>", "stern", "3", "0.25", "false", "ink", '"at": [0.5, 0.5]'):
        assert value in said
    assert page.errors == []


def test_it_fits_a_phone(few: RunningServer, page: Page) -> None:
    page.window(360, 740)
    page.open(few.url)
    page.until("document.querySelectorAll('#models a').length === 3")
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.run(wide)
    for name in ("mlp", "llama", "broken"):
        page.run(f"location.hash = '#/{name}'")
        page.until(f"document.querySelector('main h1')?.innerText === '{name}'")
        assert not page.run(wide), name
        assert page.run("getComputedStyle(document.querySelector('aside')).display") == "none"
    page.run("document.querySelector('.back').click()")
    page.until("getComputedStyle(document.querySelector('aside')).display === 'block'")


def test_it_can_be_used_with_the_keyboard_alone(few: RunningServer, page: Page) -> None:
    page.open(few.url)
    page.until("document.querySelectorAll('#models a').length === 3")
    focused = "document.activeElement.innerText ?? ''"
    for _ in range(12):
        page.press("Tab")
        if "mlp" in page.run(focused):
            break
    assert "mlp" in page.run(focused)
    page.press("Enter")
    page.until("document.getElementById('field-x')")
    unnamed = page.run(
        "[...document.querySelectorAll('input,select,textarea,button')]"
        ".filter(f => !f.labels?.length && !f.innerText && !f.ariaLabel).map(f => f.outerHTML)"
    )
    assert unnamed == []
