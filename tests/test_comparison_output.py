"""The words, tables and pictures that show a comparison."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.textpath import TextPath
from rich.cells import cell_len
from rich.console import Console

from attnunet.comparison.page import page
from attnunet.comparison.pairs import Question
from attnunet.comparison.rows import Row, ScoredRun, group_rows
from attnunet.comparison.shared import describe_choices, list_origins, list_settings
from attnunet.comparison.table import Comparison, compare_rows, tables
from attnunet.comparison.terminal import print_comparison
from attnunet.data.files import read_csv
from attnunet.figures.comparison import PAIRS, draw_all
from attnunet.metrics.statistics import mean_interval
from tests.test_comparison import NAN, run, table, text_of


def test_the_leaderboard_has_each_rows_numbers() -> None:
    scores = np.array([[0.9, 0.8, 0.4, NAN], [0.5, 0.5, 0.5, 0.5]])
    first, second = table(scores).standings
    assert (first.rank, first.mean, first.median) == (1, pytest.approx(0.7), 0.8)
    assert (first.low, first.high) == mean_interval(scores[0, :3], 499)
    assert (second.rank, second.low, second.high) == (2, 0.5, 0.5)


def test_the_files_hold_what_the_comparison_holds() -> None:
    comparison = table(np.array([[0.9, 0.8, NAN], [0.5, 0.5, 0.5]]))
    files = {name: list(csv.DictReader(io.StringIO(text))) for name, text in tables(comparison).items()}
    (first, second) = files["leaderboard.csv"]
    assert (first["rank"], first["loss"], first["patients"], first["seeds"]) == ("1", "loss0", "2", "1")
    assert float(first["mean"]) == pytest.approx(0.85)
    assert second["runs"] == "00000001" + "0" * 24
    (pair,) = files["pairs.csv"]
    assert (pair["first"], pair["second"], pair["patients"], pair["verdict"]) == ("loss=loss0", "loss=loss1", "2", "undecided")
    assert pair["words"] == comparison.sentences[0]
    assert [row["1 loss=loss0"] for row in files["patients.csv"]] == ["0.9", "0.8", "nan"]


def test_ranks_and_groups_stand_beside_the_scores() -> None:
    """The first row is better than the third on each patient; the second lies between, on other patients each time."""
    base = np.linspace(0.2, 0.8, 12)
    between = base + np.tile([0.3, -0.1], 6)
    comparison = table(np.array([base + 0.1, between, base]))
    assert [pair.verdict for pair in comparison.pairs] == ["undecided", "better", "undecided"]
    assert [s.group for s in comparison.standings] == ["a", "ab", "b"]
    assert [(s.rank_low, s.rank_high) for s in comparison.standings] == [(1, 2), (1, 3), (2, 3)]
    rows = read_csv(tables(comparison)["leaderboard.csv"])
    assert [(row["rank_low"], row["rank_high"], row["group"]) for row in rows][1] == ("1.0", "3.0", "ab")
    text, html = text_of(comparison), page(comparison, "", [], [], {})
    assert re.search(r"│ 1 to 3 │ +ab │", text)
    assert re.search(r'<td class="number">1 to 3</td>\s*<td>ab</td>', html)
    for shown in (text, Elements(html).text):
        assert "rows that share a letter in the column group cannot be told apart" in shown
    errors = table(np.array([base, between, base + 0.1]) * 9, score="hd95")
    assert [s.group for s in errors.standings] == ["a", "ab", "b"]
    assert [(s.rank_low, s.rank_high) for s in errors.standings] == [(1, 2), (1, 3), (2, 3)]


def test_a_row_without_a_score_has_no_ranks() -> None:
    first, second = table(np.array([[0.5, 0.6], [NAN, NAN]])).standings
    assert (first.ranks, second.ranks) == ("1", "")
    assert first.group == second.group == "a"  # undecided


def test_a_verdict_that_rests_on_one_seed_is_marked() -> None:
    scores = np.random.default_rng(0).beta(5, 2, 12) * 0.5
    made = [
        run(number, dict(zip("abcdefghijkl", (scores + gain).tolist(), strict=True)), loss=loss, seed=seed)
        for number, (loss, seed, gain) in enumerate([("x", 0, 0.4), ("y", 0, 0.2), ("y", 1, 0.2), ("z", 0, 0), ("w", 0, 0)])
    ]
    comparison = compare_rows(group_rows(made), "val", Question(resamples=199, margin=0.001))
    assert [comparison.seeds_of(pair) for pair in comparison.pairs] == [1] * 6
    ends = [words.rpartition("; ")[2] for words in comparison.sentences]
    assert ends == [
        "one seed of row 1.",
        *["one seed each."] * 2,
        "one seed of row 3.",
        "one seed of row 4.",
        "one seed each.",
    ]
    said = "One seed: where a row has a single seed, a difference may be the seed's."
    assert any(note.startswith(said) for note in comparison.notes())
    assert said in text_of(comparison)
    assert said in page(comparison, "", [], [], {}).replace("&#39;", "'")
    assert {row["seeds"] for row in read_csv(tables(comparison)["pairs.csv"])} == {"1"}
    assert any("0.028 of Dice" in note for note in comparison.notes())
    # What two seeds differ by was measured for Dice alone.
    (other,) = [note for note in compare_rows(group_rows(made), "val", Question("iou", resamples=199)).notes() if said in note]
    assert "of Dice" not in other
    # An undecided pair says nothing that a seed could explain.
    undecided = table(np.random.default_rng(2).beta(5, 2, (2, 12)))
    assert [pair.verdict for pair in undecided.pairs] == ["undecided"]
    assert "seed" not in " ".join([*undecided.sentences, *undecided.notes()])


def test_more_seeds_are_not_marked() -> None:
    scores = np.random.default_rng(0).beta(5, 2, 12) * 0.5
    made = [
        run(number, dict(zip("abcdefghijkl", (scores + 0.2 * (loss == "x")).tolist(), strict=True)), loss=loss, seed=seed)
        for number, (loss, seed) in enumerate([("x", 0), ("x", 1), ("y", 0), ("y", 1)])
    ]
    comparison = compare_rows(group_rows(made), "val", Question(resamples=199))
    assert comparison.pairs[0].verdict == "better"
    assert "seed" not in " ".join([*comparison.sentences, *comparison.notes()])
    assert comparison.seeds_of(comparison.pairs[0]) == 2


def test_what_holds_for_all_pairs_is_said_once() -> None:
    comparison = table(np.random.default_rng(0).beta(5, 2, (4, 12)))
    text, html = text_of(comparison), Elements(page(comparison, "", [], [], {})).text
    for shown in (text, html):
        assert shown.count("over 12 patients") == 1
        assert shown.count("after Holm over 6 pairs") == 1
        assert shown.count("power 0.8") == 1
    assert text.count("; detectable 0.") == 6


def test_rows_that_differ_in_much_are_named_by_their_number() -> None:
    scores = {"a": 0.5, "b": 0.6}
    values = [("x", 8, "none"), ("y", 8, "none"), ("y", 16, "mri")]
    made = [run(n, scores, loss=loss, batch_size=b, augment=a) for n, (loss, b, a) in enumerate(values)]
    comparison = compare_rows(group_rows([*made[:2], replace(made[2], leaking=True)]), "val", Question(resamples=99))
    assert [words.partition(":")[0] for words in comparison.sentences] == [
        "Row 1 (loss=x) and row 2 (loss=y) are equivalent",
        "Row 1 and row 3 (LEAKING) are equivalent",
        "Row 2 (augment=none batch_size=8) and row 3 (LEAKING augment=mri batch_size=16) are equivalent",
    ]


def wide(runs: int = 3) -> Comparison:
    """Rows with six parameters."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(runs):
        params = {
            "model": ("conv", "separable")[number % 2],
            "loss": f"focal_dice{number}",
            "augment": ("none", "mri")[number % 2],
            "optimizer__learning_rate": 0.001 * (number + 1),
            "batch_size": 8 * (number + 1),
            "model__dropout": number / 10,
        }
        scores = {f"p{place:02}": float(score) for place, score in enumerate(rng.beta(5, 2, 12))}
        made.append(run(number, scores, **params))
    return compare_rows(group_rows(made), "val", Question(resamples=99))


@pytest.mark.parametrize(
    ("width", "beside", "left_out"),
    [(80, False, "median, runs"), (100, False, ""), (160, True, "runs"), (200, True, "")],
)
def test_the_leaderboard_is_no_wider_than_the_terminal(width: int, beside: bool, left_out: str) -> None:
    comparison = wide()
    text = text_of(comparison, width)
    table = [line for line in text.splitlines() if line[:1] in "┏┃┡│└"]
    assert len(table) == (2 if beside else 1) + 3 + 3  # no cell is broken, but for the names of parameters
    assert max(map(cell_len, table)) <= width
    assert ("dropout" in table[2 if beside else 1]) == beside
    for s in comparison.standings:
        assert (f"\n{s.rank}: {s.row.name}\n" in text) != beside
        assert f"{s.mean:.3f}" in text
    assert not [name for name in filter(None, left_out.split(", ")) if name in "".join(table)]
    assert (f"Not shown, for lack of width: {left_out}; see leaderboard.csv\n" in text) == bool(left_out)


def test_a_terminal_breaks_lines_between_words_and_a_log_never() -> None:
    comparison = wide()
    for terminal in (True, False):
        console = Console(width=60, file=io.StringIO(), soft_wrap=True, force_terminal=terminal, color_system=None)
        print_comparison(console, comparison)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        lines = [line.rstrip() for line in text.splitlines() if line and line[0] not in "┏┃┡│└ "]
        assert (max(map(len, lines)) <= 60) == terminal
        assert all(note in " ".join(lines) for note in comparison.notes())


def test_all_scores_stay_however_narrow_the_terminal_is() -> None:
    text = text_of(wide(), 30)
    assert "Not shown, for lack of width: seeds, spread, minutes, median, runs; see leaderboard.csv" in text
    assert "1: " in text


def test_what_all_rows_share_is_said() -> None:
    shared = {"data": "lgg", "data__exclude": "[]", "neighbors": "[]", "epochs": None, "study": "s", "seed": 1}
    tags = {"python": "3.11.7", "version.keras": "3.15.1", "machine": "one", "git.commit": "0123456789abcdef"}
    made = [replace(run(n, {"a": 0.5, "b": 0.5}, loss=f"loss{n}", **shared), tags=tags) for n in range(2)]
    comparison = compare_rows(group_rows(made, ["study"]), "val", Question(resamples=99))
    settings = list_settings(comparison)
    assert settings == {
        "data": "lgg",
        "data.exclude": "[]",
        "epochs": "None",
        "neighbors": "[]",
        "seed": "1",
        "split": "patient",
    }
    assert describe_choices(settings) == "data=lgg seed=1 split=patient"
    assert list_origins(comparison) == {
        "Data": "data (hash of images and masks)",
        "Patients": "2 validation patients (4 slices)",
        "Machine": "one",
        "Software": "Python 3.11.7, keras 3.15.1",
        "Commit": "0123456789ab",
    }
    html = Elements(page(comparison, "", [], [], {})).text
    for text in (html, text_of(comparison)):
        assert "All rows share data=lgg seed=1 split=patient" in text
    assert "data.exclude=[]" in html
    assert "Python 3.11.7, keras 3.15.1" in html


def test_runs_of_different_machines_are_named_and_nothing_is_made_up() -> None:
    def made(number: int, **tags: str) -> ScoredRun:
        return replace(run(number, {"a": 0.5, "b": 0.5}, loss=f"loss{number}"), tags=tags)

    runs = [made(0, machine="one", python="3.11"), made(1, machine="two"), made(2, machine="one", python="3.11")]
    found = list_origins(compare_rows(group_rows(runs), "val", Question(resamples=99)))
    assert found["Machine"] == "differs: one (rows 1, 3); two (row 2)"
    assert found["Software"] == "differs: Python 3.11 (rows 1, 3); not known (row 2)"
    assert "Commit" not in found  # no run tells it


def test_the_ids_of_runs_are_links_where_they_lead_somewhere() -> None:
    made = run(0, {"a": 0.5, "b": 0.6}, loss="x")
    linked = replace(made, page="http://127.0.0.1:5000/#/experiments/1/runs/0", folder="file:///a%20b/artifacts")
    comparison = compare_rows(group_rows([linked]), "val", Question(resamples=99))
    found = Elements(page(comparison, "", [], [], {}, "attnunet-store ui '/a b'"))
    assert [attributes["href"] for tag, attributes in found.tags if tag == "a"] == [linked.page, linked.folder]
    assert "links to MLflow, which open while this command runs: attnunet-store ui '/a b'." in found.text
    plain = Elements(page(compare_rows(group_rows([made]), "val", Question(resamples=99)), "", [], [], {}))
    assert "a" not in [tag for tag, _ in plain.tags]
    assert "attnunet-store" not in plain.text


def test_the_notes_say_what_is_wrong_with_the_numbers() -> None:
    few = table(np.random.default_rng(0).beta(5, 2, (6, 7)))
    notes = "\n".join(few.notes())
    assert (
        "7 patients cannot show a difference among 15 pairs, however large. The smallest p of the signed rank test is 0.016"
        in notes
    )
    assert "0.23 after Holm, and 0.05 is asked for. It takes 10 patients" in notes
    assert "Over 7 patients intervals are too narrow" in notes
    assert "The validation patients chose the checkpoint and the decision" in notes
    assert "LEAKING" not in notes
    leaking = compare_rows(group_rows([run(0, {"a": 0.1, "b": 0.2}, leaking=True)]), "val", Question(resamples=99))
    assert "LEAKING: row 1 trained on patients who are scored here" in "\n".join(leaking.notes())
    many = table(np.random.default_rng(0).beta(5, 2, (2, 30)))
    assert list(many.notes()) == [
        "The validation patients chose the checkpoint and the decision, so these scores are too high; "
        + "test=true scores the test."
    ]


def test_the_terminal_shows_rows_and_words() -> None:
    text = text_of(table(np.array([[0.9, 0.8, 0.4], [0.5, 0.5, 0.5]])))
    assert "2 rows, 2 runs, 3 validation patients, 1 pair: 1 undecided" in text
    assert re.search(r"1 │ loss0 +│ 0.700 │ 0.400 to 0.900 │", text)
    assert "Row 1 (loss=loss0) or row 2 (loss=loss1): undecided: +0.200" in text


def test_the_leaderboard_tells_the_size_of_networks_that_logged_it() -> None:
    scores = np.array([[0.9, 0.8, 0.4], [0.5, 0.5, 0.5]])
    runs = [run(i, dict(zip("abc", own, strict=True)), loss=f"loss{i}") for i, own in enumerate(scores)]
    earlier = compare_rows(group_rows(runs), "val", Question(resamples=99))
    runs[0] = replace(runs[0], parameters=481_936, macs=206_127_104)
    sized = compare_rows(group_rows(runs), "val", Question(resamples=99))
    for told, found in ((False, earlier), (True, sized)):
        for text in (text_of(found), page(found, "", [], [], {})):
            assert ("0.482 M" in text) == ("206 M" in text) == ("MACs" in text) == told
    first, second = read_csv(tables(sized)["leaderboard.csv"])
    assert (float(first["parameters"]), float(first["macs"]), second["macs"]) == (481_936, 206_127_104, "nan")


def test_over_how_many_patients_a_row_is_said_where_it_is_not_over_all() -> None:
    scores = np.random.default_rng(0).beta(5, 2, (2, 12))
    for text in (text_of(table(scores)), page(table(scores), "", [], [], {})):
        assert " of 12" not in text
    scores[1, :2] = NAN
    partial = table(scores)
    assert re.search(r"loss1 .*│ +10 of 12 │", text_of(partial))
    assert re.search(r"loss0 .*│ +12 of 12 │", text_of(partial))
    for text in (text_of(partial), page(partial, "", [], [], {})):
        assert "not all over the same: see patients" in text
    assert "10 of 12</td>" in page(partial, "", [], [], {})


def test_that_ranks_are_over_different_validation_patients_is_said_where_the_test_is_shown() -> None:
    scores = {f"p{number:02}": number / 20 for number in range(12)}
    validated = [scores, scores | {"p00": NAN}]
    both = [run(number, found, loss=f"loss{number}") for number, found in enumerate(validated)]
    slices = {part: dict.fromkeys(scores, (1,)) for part in ("val", "test")}
    made = group_rows([replace(one, slices=slices, scores={**one.scores, "test": scores}) for one in both])
    said = "Ranks are by means over those validation patients who have a defined score, not all over the same."
    assert said in compare_rows(made, "test", Question(resamples=99)).notes()
    assert said not in compare_rows(made[:1], "test", Question(resamples=99)).notes()


def test_of_many_pairs_the_terminal_shows_those_of_the_first_row() -> None:
    text = text_of(table(np.random.default_rng(0).beta(5, 2, (8, 12))))
    assert text.count("undecided: ") == 7
    assert "and 21 pairs more" in text


AWKWARD = [
    "[x]",
    "/w[/b]",
    ":brain:",
    "$a$",
    "_x^{",
    "<script>alert(1)</script>",
    '"><b id="y"',
    'url(#a) href="#b" #010203',
    "a\nb",
]
AWKWARD += ["张伟", "=1+1", "{{ 7 * 7 }}"]


@pytest.fixture(scope="module")
def awkward() -> Comparison:
    """Rows that are told apart by values that others could have written."""
    rng = np.random.default_rng(0)
    scores = [{f"p{number:02}": float(score) for number, score in enumerate(rng.beta(5, 2, 12))} for _ in AWKWARD]
    made = [replace(run(n, s, loss=name), name=name) for n, (s, name) in enumerate(zip(scores, AWKWARD, strict=True))]
    return compare_rows(group_rows(made), "val", Question(resamples=99))


def test_the_terminal_shows_names_as_they_are(awkward: Comparison) -> None:
    text = text_of(awkward)
    for name in AWKWARD:
        shown = name.split("\n")[0]
        assert re.search(rf"│ {re.escape(shown)} +│", text)  # in the table
        assert f"(loss={shown}" in text  # in words


def test_the_files_give_names_back_as_they_are(awkward: Comparison) -> None:
    files = {name: read_csv(text) for name, text in tables(awkward).items()}
    assert [row["loss"] for row in files["leaderboard.csv"]] == AWKWARD
    assert {row["second"] for row in files["pairs.csv"]} == set(awkward.names[1:])
    assert list(files["patients.csv"][0])[1:] == [f"{s.rank} {s.row.name}" for s in awkward.standings]
    # To a spreadsheet, none of them is a formula.
    cells = [cell for text in tables(awkward).values() for row in csv.reader(io.StringIO(text)) for cell in row]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell[:1] in "=@+" and cell]


# Pictures and the page.

SVG = "{http://www.w3.org/2000/svg}"


def marks(svg: str, color: str) -> int:
    """How many markers of a colour are drawn."""
    return sum(f"fill: {color}" in use.get("style", "") for use in ElementTree.fromstring(svg).iter(f"{SVG}use"))


def test_every_row_pair_and_patient_is_drawn() -> None:
    scores = np.random.default_rng(0).beta(5, 2, (4, 12))
    scores[1, 2] = NAN
    figures = draw_all(table(scores))
    assert set(figures) == {"intervals", "pairs", "patients", "parameters", "time"}
    assert marks(figures["intervals"], "#e69f00") == 4
    assert marks(figures["time"], "#e69f00") == 4
    assert marks(figures["patients"], "#56b4e9") == 47
    assert marks(figures["pairs"], "#888888") == 6 + 1  # all undecided, and the legend
    assert marks(figures["parameters"], "#56b4e9") == 4
    words = " ".join(
        text for element in ElementTree.fromstring(figures["intervals"]).iter(f"{SVG}text") for text in element.itertext()
    )
    assert "4  loss=loss3" in words


def test_ink_is_the_pages_own_and_no_two_pictures_share_an_id() -> None:
    figures = draw_all(table(np.random.default_rng(0).beta(5, 2, (2, 12))))
    ids = [found for svg in figures.values() for found in re.findall(r' id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in figures.values():
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert all(found in ids for found in re.findall(r'href="#([^"]+)"', svg))
        assert ElementTree.fromstring(svg).get("role") == "img"


def test_of_too_many_pairs_those_of_the_first_row_are_drawn() -> None:
    comparison = table(np.random.default_rng(0).beta(5, 2, (11, 12)))
    assert len(comparison.pairs) == 55 > PAIRS
    assert marks(draw_all(comparison)["pairs"], "#888888") == 10 + 1


def test_a_single_row_has_its_interval_and_no_more() -> None:
    comparison = table(np.array([[0.5, 0.6, 0.7]]))
    assert set(draw_all(comparison)) == {"intervals"}
    assert "Which differences are real" not in page(comparison, "one", [], [], {})


class Elements(HTMLParser):
    """Tags, attributes and text of a page; that each element is closed where it should be."""

    VOID = ("meta", "br", "link", "img", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_escaped_and_needs_no_network() -> None:
    comparison = table(np.random.default_rng(0).beta(5, 2, (4, 12)))
    html = page(comparison, "Dice <of> A & B", ["run 1 is FAILED"], ["looked at 3 times"], {"Command": "compare 'x' <y>"})
    found = Elements(html)
    assert "Dice <of> A & B" in found.text
    assert "compare 'x' <y>" in found.text
    for words in (*comparison.sentences, "run 1 is FAILED", "looked at 3 times"):
        assert words in found.text
    tags = [tag for tag, _ in found.tags]
    assert tags.count("svg") == 5
    assert not {"script", "link", "iframe", "img"} & set(tags)
    for tag, attributes in found.tags:
        for name in ("src", "href", "xlink:href"):
            assert tag == "a" or (attributes.get(name) or "#").startswith("#")
    # Each picture is described by its caption, and every id is there once.
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes["aria-labelledby"] in ids for tag, attributes in found.tags if "aria-labelledby" in attributes)
    assert "url(http" not in html


def test_names_are_text_on_the_page_and_in_its_pictures(awkward: Comparison) -> None:
    """They add no element and no attribute, and in the pictures nothing of them is taken for an id or a colour."""
    plain = Elements(page(table(awkward.scores[:2]), "t", ["left out"], [], {}))
    html = page(awkward, AWKWARD[5], AWKWARD, AWKWARD, {AWKWARD[6]: AWKWARD[5]})
    found = Elements(html)
    assert not {"script", "b"} & {tag for tag, _ in found.tags}
    assert {name for _, attributes in found.tags for name in attributes} <= {name for _, a in plain.tags for name in a}
    for name in AWKWARD:
        assert found.text.count(f"(loss={name})") == 11
    intervals = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>")] + "</svg>")
    words = ["".join(element.itertext()) for element in intervals.iter(f"{SVG}text")]
    for name in AWKWARD:
        shown = name.replace("\n", r"\n").replace("张伟", r"\u5f20\u4f1f")
        assert [word for word in words if word.endswith(f"  loss={shown}")], name


def test_no_letter_of_a_long_name_lies_outside_of_the_picture() -> None:
    rng = np.random.default_rng(0)
    scores = [{f"p{n}": float(score) for n, score in enumerate(rng.beta(5, 2, 12))} for _ in range(3)]
    made = [
        run(n, own, data__root=f"/{letter * 300}", loss=f"loss{n}")
        for n, (own, letter) in enumerate(zip(scores, "iWa", strict=True))
    ]
    intervals = ElementTree.fromstring(draw_all(compare_rows(group_rows(made), "val", Question(resamples=99)))["intervals"])
    names = [text for text in intervals.iter(f"{SVG}text") if "loss=" in "".join(text.itertext())]
    assert len(names) == 3
    for text in names:
        width = TextPath((0, 0), "".join(text.itertext()), size=7).get_extents().x1
        assert 0 <= float(text.get("x", "nan")) - width < 60


def test_rows_keep_their_label_when_their_scores_are_read_again() -> None:
    (row, _) = group_rows([run(0, loss="dice"), run(1, loss="focal")])
    again = replace(row, runs=(run(0, {"a": 0.9}, loss="dice"),))
    assert isinstance(again, Row)
    assert (again.name, again.scores("val")) == ("loss=dice", {"a": 0.9})
