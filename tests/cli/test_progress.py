import io

from inferd.cli.progress import WIDTH, LoadBar, bar_text


def test_the_bar_shows_how_much_of_how_much() -> None:
    assert bar_text("m", 0, 2_000_000_000) == f"loading m [{'-' * WIDTH}] 0.0 of 2.0 GB"
    assert f"[{'#' * 15}{'-' * 15}] 1.0 of 2.0 GB" in bar_text("m", 10**9, 2 * 10**9)
    assert "[" + "#" * WIDTH + "]" in bar_text("m", 0, 0)
    assert "\x1b" not in bar_text("a\x1b[31m", 1, 2)


def test_the_line_is_gone_when_all_is_loaded_or_the_server_has_started() -> None:
    out = io.StringIO()
    bar = LoadBar(out)
    bar.update("m", 1, 2)
    bar.update("m", 1, 2)  # too soon to draw again
    assert out.getvalue().count("loading m") == 1
    bar.update("m", 2, 2)
    assert out.getvalue().endswith("\r\x1b[K")
    bar.close()
    bar.update("m", 1, 2)
    assert out.getvalue().count("loading m") == 1


def test_a_bar_that_is_shown_is_taken_away() -> None:
    out = io.StringIO()
    bar = LoadBar(out)
    bar.update("m", 1, 2)
    bar.close()
    assert out.getvalue().endswith("\r\x1b[K")
