"""The report: what it says, that it is one file, and that a browser draws it without complaint."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from mmssl.errors import MmsslError
from mmssl.report import write_report
from mmssl.report.collect import collect
from mmssl.report.page import duration, inline_json, results, value
from mmssl.report.plots import lines

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Loads(HTMLParser):
    """Collects everything that a browser would fetch, and the page's text outside scripts."""

    def __init__(self, html):
        super().__init__()
        self.fetched, self.text, self.tag = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        self.fetched += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "poster") and v]

    def handle_data(self, data):
        if self.tag not in ("script", "style"):
            self.text.append(data)


@pytest.fixture
def page(run_folder):
    return write_report(run_folder)


def test_one_file_that_fetches_nothing(page):
    html = page.read_text()
    loads = Loads(html)
    assert len(loads.fetched) >= 3
    assert all(url.startswith("data:") for url in loads.fetched)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_says_what_was_found(page):
    html = page.read_text()
    text = " ".join(" ".join(Loads(html).text).split())
    assert "mmssl run demo simclr.train.passes=4" in text
    assert "74.0 % ▲ 24.0 untrained 50.0 · chance 12.5" in text  # simclr on knn/shape
    assert "44.0 % ▼ 6.0 untrained 50.0" in text  # mae on knn/shape
    assert "All 18 scores" in text
    assert "22.0 % ▼ 6.0 95 % in 20.0 … 35.0 · untrained 28.0 · chance 33.3" in text  # simclr's error fell
    assert "32.0 % ▲ 4.0 95 % in 20.0" in text  # mae's error grew
    assert "alignment · cameras alignment error, lower is better" in text
    assert "16 candidates &lt;b&gt;" in html
    assert "1 unreadable samples replaced (1 × image: truncated)" in text
    assert "miniworld val 400 1 3.2 MB" in text
    assert "made from simclr" in text
    assert "803 images/s (median), 2.0 % of the time waiting for data" in text
    assert "protocol of knn/shape &lt;b&gt;" in html  # text of others never becomes markup


def test_stages_in_the_order_they_ran_and_half_a_line_is_not_read(run_folder):
    (run_folder / "mae.old-0123456789abcdef").mkdir()  # what a re-run has put aside is not shown
    shutil.copy(run_folder / "mae" / "stage.json", run_folder / "mae.old-0123456789abcdef")
    run = collect(run_folder)
    assert [stage.name for stage in run.stages] == [
        "shards", "simclr", "mae", "simclr_scores", "mae_scores", "export",
    ]  # fmt: skip
    assert run.stages[1].log[-1]["step"] == 200


def test_empty_run_has_a_page(tmp_path):
    html = write_report(tmp_path).read_text()
    assert "No stage has run yet." in html


def test_scores_without_untrained_or_chance():
    score = {
        "stage": "a",
        "evaluation": "knn/x",
        "metric": "accuracy",
        "value": 3.0,
        "unit": "%",
        "protocol": "p",
    }
    table = results([score])
    assert table["rows"]["a"]["knn/x"]["gain"] is None
    assert table["best"]["knn/x"] is None  # one row has no best
    rows = results([score, score | {"value": 4.0, "evaluated_by": "elsewhere"}])["rows"]
    assert [(name, row["knn/x"]["value"]) for name, row in rows.items()] == [
        ("a", 3.0),
        ("a (elsewhere)", 4.0),
    ]


def test_errors_are_best_where_lowest_and_descriptions_are_no_headlines(run_folder):
    table = results(collect(run_folder).scores)
    assert table["columns"] == ["knn/shape", "knn/texture", "linear/shape", "alignment/cameras"]
    assert table["best"]["alignment/cameras"] == 22.0
    assert table["best"]["knn/shape"] == 74.0
    assert table["rows"]["simclr"]["alignment/cameras"]["improved"] is True
    assert table["rows"]["mae"]["alignment/cameras"]["improved"] is False
    assert table["rows"]["mae"]["knn/shape"]["improved"] is False
    assert table["rows"]["simclr"]["alignment/cameras"]["metric"] == "alignment error"


def test_every_figure_is_drawn_with_its_chance_line(run_folder):
    steps = collect(run_folder).stages[3].figures["pretext_steps"]
    drawn = lines(steps)
    assert [line["name"] for line in drawn["data"]] == ["simclr", "untrained", "chance"]
    assert list(drawn["data"][0]["y"]) == [60, 40, None, 22]
    assert list(drawn["data"][1]["y"]) == [50.0, 50.0, 50.0, None]  # from scores.json
    assert drawn["data"][2]["line"]["dash"] == "dash"
    assert list(drawn["layout"]["xaxis"]["tickvals"]) == [1, 2, 3, 4]
    assert drawn["layout"]["xaxis"]["title"]["text"] == "k"
    assert len(lines(steps | {"chance": None, "untrained": None})["data"]) == 1


def test_bad_input(run_folder, tmp_path):
    with pytest.raises(MmsslError, match="nowhere: no such folder"):
        write_report(tmp_path / "nowhere")
    (run_folder / "simclr_scores" / "scores.json").write_text('{"scores": 3}')
    with pytest.raises(MmsslError, match=r"scores\.json: scores: expected a list"):
        write_report(run_folder)
    (run_folder / "simclr_scores" / "scores.json").unlink()
    (run_folder / "simclr_scores" / "figures" / "broken.json").write_text('{"title": "no lines"}')
    with pytest.raises(
        MmsslError, match=r"broken\.json: expected a figure with chance, protocol, series, title, untrained"
    ):
        write_report(run_folder)
    (run_folder / "simclr_scores" / "figures" / "broken.json").unlink()
    (run_folder / "simclr" / "log.jsonl").write_text('nonsense\n{"step": 1}\n')
    with pytest.raises(MmsslError, match=r"log\.jsonl: line 1: expected one JSON object"):
        write_report(run_folder)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (3.21, "3.2 s"), (61, "1 min 1 s"), (3599.9, "1 h 0 min"), (7380, "2 h 3 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_numbers_and_inline_json():
    assert [value(-1.26, "%"), value(0.01234), value(1234.6), value(None)] == ["−1.3", "0.0123", "1,235", "–"]
    assert "<" not in inline_json({"x": "</script><!--"})


@pytest.fixture
def browse(tmp_path):
    """Runs the page; gives its elements after its scripts, and fails if the browser complains."""

    def run(page):
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --disable-sync --no-first-run "
            "--disable-background-networking --disable-component-update --enable-logging=stderr --v=0 "
            "--virtual-time-budget=8000 --window-size=1280,1600 --dump-dom"
        )
        shown = subprocess.run(
            [BROWSER, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert shown.returncode == 0, shown.stderr[-2000:]
        assert "<main>" in shown.stdout, shown.stderr[-2000:]
        assert not [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
        return re.sub(r"<script.*?</script>", "", shown.stdout, flags=re.DOTALL)

    return run


needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH"
)


@needs_browser
def test_browser_draws_every_plot_without_complaint(page, browse):
    drawn = browse(page)
    assert drawn.count('class="main-svg"') >= 19  # eight curves for two stages, two figures, the map
    assert drawn.count('class="point plotly-customdata"') == 120  # every sample of the map
    assert drawn.count("stroke-dasharray: 9px") >= 2  # chance lines
    assert 'aria-pressed="true">simclr_scores</button>' in drawn
    assert "t-SNE of 120 of val (400)" in drawn


@needs_browser
def test_hovering_over_the_map_shows_the_sample(page, browse):
    hover = """<script>setTimeout(() => {
      const spot = document.querySelector("#map .point").getBoundingClientRect();
      const at = {clientX: spot.x + spot.width / 2, clientY: spot.y + spot.height / 2, bubbles: true};
      document.querySelector("#map .nsewdrag").dispatchEvent(new MouseEvent("mousemove", at));
    }, 1500)</script></body>"""
    page.write_text(page.read_text().replace("</body>", hover))
    tip = browse(page).split('id="tip"')[1].split("</section>")[0]
    assert "display: block" in tip
    assert "background-image: url(&quot;data:image/jpeg;base64," in tip
    assert "shape: disc" in tip
    assert re.search(r"clip-\d{4}", tip)


@needs_browser
def test_browser_shows_an_empty_run(tmp_path, browse):
    (tmp_path / "none").mkdir()
    assert "No stage has run yet." in browse(write_report(tmp_path / "none"))
