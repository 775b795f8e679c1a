import io

from inferd.cli.banner import BannerHints, BannerRow, print_banner

URL = "http://127.0.0.1:8000"


def banner(rows: list[BannerRow], hints: BannerHints) -> list[str]:
    out = io.StringIO()
    print_banner(URL, rows, hints, out)
    return out.getvalue().splitlines()


def test_one_row_a_model_and_the_curl_line_as_it_was_given() -> None:
    curl = "curl -s http://127.0.0.1:8000/v2/models/iris/infer -d '{\"a  b\": [1]}'"
    rows = [
        BannerRow("iris", "1", "READY", "x FP32[-1,4]", "y INT64[-1]"),
        BannerRow("broken", "2", "UNAVAILABLE", reason="bad\nfile \x1b[31m"),
    ]
    lines = banner(rows, BannerHints(curl=curl, metrics=f"{URL}/metrics"))
    assert lines[0].startswith("inferd ")
    assert lines[0].endswith(f" at {URL}")
    assert lines[1].split() == ["MODEL", "VERSION", "STATE", "INPUTS", "OUTPUTS", "REASON"]
    assert lines[2].split() == ["iris", "1", "READY", "x", "FP32[-1,4]", "y", "INT64[-1]"]
    assert lines[3].startswith("broken  2        UNAVAILABLE")
    assert lines[3].endswith("bad file  [31m")
    assert lines[4] == f"try it:   {curl}"
    assert lines[5:] == [f"docs:     {URL}/docs", f"metrics:  {URL}/metrics"]


def test_no_reason_no_column_and_no_model_is_said() -> None:
    assert "REASON" not in banner([BannerRow("m", "1", "READY")], BannerHints())[1]
    lines = banner([], BannerHints())
    assert lines[1] == "no models yet; load one with: inferd models load NAME"
    assert not any(line.startswith("try it") for line in lines)
