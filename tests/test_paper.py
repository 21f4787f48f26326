"""The files for a paper: each sentence comes from the record, tables keep names, the cohort counts."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from attnunet import config
from attnunet.comparison.paper import claim, cohort, data, facts, methods, references, results, tables, training
from attnunet.comparison.paper.facts import Facts, Protocol, RowFacts
from attnunet.comparison.paper.files import paper_files
from attnunet.comparison.paper.text import Sentence, code, escape
from attnunet.comparison.rows import group_rows
from attnunet.comparison.table import compare_rows
from attnunet.data.cache import prepare
from attnunet.data.cohort import list_scans
from attnunet.data.lgg import lgg
from attnunet.data.split import Split
from attnunet.figures.comparison import save_all
from attnunet.metrics import catalog
from attnunet.tracking.records import runs_of_study
from attnunet.tracking.store import Store
from tests.test_comparison import run, table
from tests.test_comparison_output import AWKWARD
from tests.test_config import composed

SENTENCES = [sentence for sentences in methods.SECTIONS.values() for sentence in sentences]
VERSIONS = {"scipy": "1.17.0", "statsmodels": "0.15.0"}
TAGS = {
    **{f"version.{name}": "1.2.3" for name in ("tensorflow", "keras", "albumentations", "mlflow")},
    **{"python": "3.11.7", "git.commit": "0123456789abcdef", "git.dirty": "false"},
    **{"machine": "x86_64, a processor, 2 cores", "threads": "2"},
}


def scan(part: str, patient: str, voxels: object = 10, **more: object) -> dict[str, str]:
    """A row of cohort.csv: 5 slices, of which 2 show a lesion."""
    row = {"part": part, "patient": patient, "site": "AA", "scan": "", "missing": "", "slices": 5, "lesion_slices": 2}
    return {name: str(value) for name, value in {**row, "lesion_voxels": voxels, "spacing": "", **more}.items()}


@pytest.fixture(autouse=True, scope="module")
def hydra() -> Iterator[None]:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        yield


@pytest.fixture(scope="module")
def protocol(hydra: None) -> Protocol:
    """Two rows that record the same; 12 validation patients, one for training and one for the test."""
    comparison = table(np.random.default_rng(0).beta(5, 2, (2, 12)))
    split = {"train": {"a": [1, 2]}, "val": {patient: [1, 2] for patient in comparison.patients}, "test": {"b": [1, 2]}}
    scans = [scan(part, patient) for part, patients in split.items() for patient in patients]
    decision = {"threshold": "0.4", "smallest_lesion": "10", "fill_holes": "0"}
    one = Facts({"split": "patient"}, TAGS, {}, settings(), split, "c0ffee", decision, scans)
    rows = tuple(RowFacts(place, (one,)) for place in comparison.standings)
    return Protocol(comparison, rows, (), VERSIONS)


def settings(*overrides: str) -> dict[str, Any]:
    """Return the configuration of a run, with overrides as on the command line."""
    found: Any = OmegaConf.to_container(composed(*overrides), resolve=True)
    return found


def record(**changed: Any) -> Callable[[Protocol], Protocol]:
    """Return a change of what the record of every run holds."""
    return lambda protocol: replace(
        protocol,
        rows=tuple(replace(row, runs=tuple(replace(facts, **changed) for facts in row.runs)) for row in protocol.rows),
    )


def configured(*overrides: str) -> Callable[[Protocol], Protocol]:
    """Return a change of the configuration of every run, with overrides as on the command line."""
    return lambda protocol: record(config=settings(*overrides))(protocol)


def tagged(**tags: str) -> Callable[[Protocol], Protocol]:
    return record(tags={**TAGS, **{name.replace("__", "."): value for name, value in tags.items()}})


def asked(**question: object) -> Callable[[Protocol], Protocol]:
    """Return a change of the question. The scores stay."""
    return lambda protocol: replace(
        protocol, comparison=replace(protocol.comparison, question=replace(protocol.comparison.question, **question))
    )


def scored(rows: int, **question: object) -> Callable[[Protocol], Protocol]:
    """Return a change of the scores."""

    def change(protocol: Protocol) -> Protocol:
        made = table(np.random.default_rng(1).beta(2, 5, (rows, 12)), **question)
        runs = protocol.rows[0].runs
        return replace(protocol, comparison=made, rows=tuple(RowFacts(place, runs) for place in made.standings))

    return change


def seeded(protocol: Protocol) -> Protocol:
    """Return the protocol of a single row with two seeds."""
    scores = dict.fromkeys(protocol.comparison.patients, 0.5)
    made = compare_rows(group_rows([run(0, scores), run(1, scores, seed=1)]), "val", protocol.comparison.question)
    return replace(protocol, comparison=made, rows=(RowFacts(made.standings[0], protocol.rows[0].runs * 2),))


def unvalidated(protocol: Protocol) -> Protocol:
    """Return the protocol of a row that nobody validated."""
    scores = dict.fromkeys(protocol.comparison.patients, 0.5)
    slices = {"val": {}, "test": {patient: [1] for patient in scores}}
    only = replace(run(0, scores), slices=slices, scores={"val": {}, "test": scores})
    made = compare_rows(group_rows([only]), "test", protocol.comparison.question)
    return replace(protocol, comparison=made, rows=(RowFacts(made.standings[0], protocol.rows[0].runs),))


ONE = {"train": {"a": [1, 2]}, "val": {"b": [1]}, "test": {"c": [1]}}
CASES: list[tuple[Sentence, Callable[[Protocol], Protocol], str]] = [
    (data.source, record(content="another"), "`another`"),
    (data.source, configured("data=lgg", "data.root=x"), "a folder in the layout of the LGG MRI segmentation data set"),
    (data.source, configured("data=lgg", "data.download=true"), "as published on Kaggle (Buda et al. 2019)"),
    (data.source, configured("data=nnunet"), "a data set in the layout of nnU-Net (Isensee et al. 2021)"),
    (data.source, configured("data._target_=mine.read"), "`read(root=mlruns/cache/phantom, patients=24,"),
    (
        data.cohort,
        record(scans=[scan("val", "p1"), scan("test", "p2", site="BB")]),
        "2 patients from 2 sites (AA 1, BB 1) with",
    ),
    (
        data.cohort,
        record(scans=[scan("val", "p1", scan="x"), scan("val", "p1", scan="y")]),
        "1 patient from 1 site (AA 1) and 2 sc",
    ),
    (data.cohort, record(scans=[scan("val", "p1", "", site="", lesion_slices="")]), "held 1 patient with 5 slices."),
    (data.exclusions, configured("data.exclude=[p1]"), "1 patient was left out by name."),
    (data.exclusions, configured("data.exclude=[p1,p2]"), "2 patients were left out by name."),
    (
        data.exclusions,
        configured("data.exclude=/home/me/locked.txt"),
        "The patients that the file `locked.txt` lists were left out.",
    ),
    (data.labels, configured("data=brats"), "A voxel counted as lesion if its label was 1 or 2 or 3 or 4."),
    (
        data.missing,
        record(scans=[scan("val", "p1", missing="post pre")]),
        "(post in 1 scan and pre in 1 scan); the files hold a copy",
    ),
    (data.plane, configured("data=nifti", "data.axis=coronal"), "The slices were coronal."),
    (data.intensity, configured("data.intensity=percentile"), "the 1st and the 99th percentile of the values other than 0"),
    (data.intensity, configured("image_type=float16"), ", as float16 numbers."),
    (data.size, configured("image_size=64"), "64 x 64 pixels."),
    (
        data.size,
        configured("data=nifti", "data.pixel_size=0.5"),
        "resampled to pixels of 0.5 mm, and padded or cropped to 128 x 128",
    ),
    (data.sequences, configured("data.channels=[flair]"), "Of each slice, the network saw flair."),
    (data.sequences, configured("neighbors=[flair]"), "saw pre, flair and post, and flair of the slices before and after."),
    (data.rule, configured("split.val=0.2"), "shares of 0.2 for validation and 0.15 for the test (seed of the split 0)"),
    (
        data.rule,
        configured("split=kfold", "split.folds=3"),
        "divided into 3 folds at random, stratified by site and lesion size; a run tested on one fold",
    ),
    (data.rule, configured("split=site", "split.site=CS"), "All patients of the site CS were the test part"),
    (data.rule, configured("split=manifest"), "A fixed list assigned the patients"),
    (data.rule, configured("split=slice"), "Slices, not patients, were assigned"),
    (data.rule, configured("split.train_slices=7"), "; 7 training slices, drawn evenly over the patients, were used."),
    (data.sizes, record(split=ONE), "were training 1, validation 1 and test 1 (slices: 2, 1 and 1)."),
    (
        data.sizes,
        record(split=ONE, params={"split": "kfold", "split.folds": "3", "split.fold": "2"}),
        "In fold 2, the numbers of patients were",
    ),
    (data.leakage, record(split={**ONE, "test": {"a": [3]}}), "LEAKS: 1 patient was in more than one part"),
    (training.other_tool, record(config={"name": "nnunet", "masks": "/masks"}), "another tool, `nnunet`, whose training"),
    (
        training.network,
        configured("model.gate=none", "model.residual=false"),
        "of blocks without shortcuts with no attention gates",
    ),
    (training.network, configured("model.norm=group"), "group normalisation (Wu and He 2018)."),
    (training.network, configured("model._target_=mine.Net"), "The network was `Net(filters=[16, 32, 64, 128, 256],"),
    (training.convolutions, configured("model=conv"), "were ordinary convolutions."),
    (training.filters, configured("model.filters=[4,8]"), "it had 4 and 8 feature maps."),
    (training.variants, configured("model.dropout=0.1"), "spatial dropout (Tompson et al. 2015) of 0.1 of the feature maps."),
    (training.variants, configured("model.depths=[1,2]"), "It had 1 and 2 blocks in a row at its levels."),
    (training.variants, configured("model.deep_supervision=true"), "It had deep supervision (Lee et al. 2015)."),
    (training.parameters, record(metrics={"parameters": 123456}), "It had 123,456 parameters."),
    (
        training.parameters,
        record(metrics={"parameters": 123456, "macs": 2e6}),
        "It had 123,456 parameters and took 2,000,000 multiplications for an image.",
    ),
    (training.start, configured("init=abc"), "Training started from the best weights of run `abc`."),
    (
        training.loss,
        configured("loss=tversky"),
        "the Tversky loss (Salehi et al. 2017; weight of false positives 0.3, of false n",
    ),
    (training.loss, configured("loss.weights.dice=0.5"), "plus 0.5 times the soft Dice loss"),
    (training.loss, configured("loss.terms.dice.per_image=true"), "over each image"),
    (
        training.loss,
        configured("loss=dice", "loss._target_=mine.Loss"),
        "The loss was the `Loss(smooth=1.0, per_image=False, over=",
    ),
    (training.optimizer, configured("optimizer=adamw"), "AdamW (Loshchilov and Hutter 2019; weight decay 0.0001)"),
    (training.optimizer, configured("optimizer.schedule=constant"), "was 0.001 and stayed constant."),
    (training.optimizer, configured("optimizer.warmup=0.1"), "after a linear rise over the first 0.1 of the run."),
    (training.averaging, configured("optimizer.ema=0.999"), "its momentum rose to at most 0.999"),
    (training.length, configured("epochs=3"), "A run took 3 epochs, each of as many draws"),
    (
        training.length,
        configured("budget_images=5000", "epochs=null"),
        "about 5,000 draws of training slices, in batches of 16.",
    ),
    (training.length, configured("trainer.early_stopping=4"), ", and stopped after 4 epochs without a better `val/dice`."),
    (
        training.sampler,
        configured("trainer.lesion_share=0.25"),
        "A share of 0.25 of the slices in each batch showed a lesion.",
    ),
    (training.sampler, configured("trainer.lesion_share=null"), "Training slices were drawn at random"),
    (training.sampler, configured("sampler=patient_first"), "proportional to 0.15 plus its share"),
    (training.augmentation, configured("augment=none"), "Training images were not augmented."),
    (training.augmentation, configured("augment=light"), "`HorizontalFlip(p=0.5)` and `Affine(scale=[0.9, 1.1],"),
    (training.seeds, seeded, "Training used the seeds 0 and 1."),
    (training.precision, configured("trainer.precision=mixed_float16"), "Training computed in `mixed_float16`."),
    (training.precision, configured("trainer.jit_compile=true"), "`float32`, compiled by XLA."),
    (training.checkpoint, configured("monitor=val/loss"), "the weights with the best `val/loss`, were kept."),
    (
        training.checkpoint,
        configured("trainer.mean_of_last=3"),
        "The mean of the weights after each of the last 3 epochs was kept (after Izmailov et al. 2018).",
    ),
    (training.checkpoint, configured("trainer.mean_of_last=1"), "The weights of the last epoch were kept."),
    (training.growth, configured("first_sizes=[64,96]"), "The training images were 64 and 96 pixels wide in the first parts"),
    (training.mirror, configured("evaluation.flip=true"), "means of an image's and of its mirror image's."),
    (training.decision, configured("evaluation.thresholds=[0.5,0.7]"), "at least a threshold, one of 0.5 and 0.7;"),
    (training.decision, configured("evaluation.smallest_lesions=[30]"), "smallest size, 30, were removed"),
    (training.decision, configured("evaluation.fill_holes=[true]"), "holes within slices were filled;"),
    (
        training.chosen,
        record(decision={"threshold": "0.7", "smallest_lesion": "30", "fill_holes": "1"}),
        "threshold 0.7, smallest lesion 30 voxels, holes filled.",
    ),
    (results.score, asked(score="volume_error"), "(fp - fn) / (tp + fn), as an absolute value, where tp, fp, fn and tn"),
    (
        results.surfaces,
        asked(score="surface_dice"),
        "in pixels within slices, because the spacing was unknown, with a tolerance of 2 p",
    ),
    (results.lesions, asked(score="lesion_f1"), "Lesions were the 26-connected components"),
    (results.undefined, asked(score="hd95"), "then the diagonal of the volume"),
    (results.patients, scored(3), "3 rows of the leaderboard with 3 runs were scored on the 12 validation patients"),
    (results.patients, unvalidated, "and listed without a rank."),
    (results.averages, seeded, "The score of a patient was the mean over the seeds."),
    (results.intervals, asked(resamples=1234), "from 1,234 resamples"),
    (results.intervals, asked(alpha=0.1), "Intervals are 90% BCa"),
    (results.tests, scored(3), "over all 3 pairs and a significance level of 0.05."),
    (results.verdicts, asked(margin=0.01), "within ±0.01"),
    (results.first, scored(3), "The first of 3 rows, `loss=loss0`, reached a mean Dice of 0.290"),
    (results.others, scored(3), "Of the 2 other rows, it was not told apart from 2."),
    (results.software, tagged(version__keras="9.9"), "Keras 9.9"),
    (results.software, tagged(git__dirty="true"), "(commit 0123456789ab, with uncommitted changes)"),
    (
        results.statistics,
        lambda protocol: replace(protocol, versions={"scipy": "2.0", "statsmodels": "3.0"}),
        "SciPy 2.0 (Virt",
    ),
    (results.machines, tagged(machine="a GPU"), "Training ran on a GPU, with 2 threads."),
    (results.duration, scored(3), "the epochs of a run took 1.0 minutes on average, with their validation (row 2)"),
]


@pytest.mark.parametrize(("sentence", "change", "words"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_changed_record_changes_the_sentence(
    sentence: Sentence, change: Callable[[Protocol], Protocol], words: str, protocol: Protocol
) -> None:
    before, after = methods.methods(protocol), methods.methods(change(protocol))
    told = sentence(change(protocol))
    assert words in told
    assert told in after
    assert told not in before


def test_every_sentence_is_changed_by_a_record() -> None:
    assert {sentence for sentence, _, _ in CASES} == set(SENTENCES)
    assert len(SENTENCES) == len(set(SENTENCES))


def test_each_commit_of_a_rows_runs_is_named(protocol: Protocol) -> None:
    other = tagged(git__commit="fedcba9876543210")(protocol)
    both = replace(
        protocol, rows=tuple(replace(a, runs=a.runs + b.runs) for a, b in zip(protocol.rows, other.rows, strict=True))
    )
    assert "(commit 0123456789ab and commit fedcba987654)" in results.software(both)


def test_facts_that_differ_among_the_rows_are_said_row_by_row(protocol: Protocol) -> None:
    first, second = protocol.rows
    other = configured("loss=dice", "model.dropout=0.5")(protocol).rows[1]
    mixed = replace(protocol, rows=(first, other))
    assert re.fullmatch(
        r"Varied: the loss was the sum of .* \(row 1\); the loss was the soft Dice loss .* \(row 2\)\.", training.loss(mixed)
    )
    assert (
        training.variants(mixed) == "Varied: it had spatial dropout (Tompson et al. 2015) of 0.5 of the feature maps (row 2)."
    )
    assert training.optimizer(mixed) == training.optimizer(protocol)
    three = replace(protocol, rows=(first, other, second))
    assert "(rows 1 and 2)" in training.loss(three)


def test_a_methods_section_cites_what_it_names_and_nothing_else(protocol: Protocol) -> None:
    text, _, listed = methods.methods(protocol).partition("## References")
    for key, reference in references.REFERENCES.items():
        assert (key in text) == (reference in listed)
    assert "Kingma DP" in listed
    assert "Loshchilov I, Hutter F. Decoupled" not in listed
    assert "Loshchilov I, Hutter F. Decoupled" in methods.methods(configured("optimizer=adamw")(protocol))


def test_every_source_has_a_reference() -> None:
    for metric in catalog.METRICS:
        if metric.source:
            key, identifier = metric.source.split(", ", 1)
            assert identifier in references.REFERENCES[key]
    written = "".join(Path(module.__file__ or "").read_text() for module in (data, training, results, claim))
    cited = re.findall(r"[A-Z][a-z]+(?: et al\.| and [A-Z][a-z]+)? (?:19|20)\d\d", written.replace('"\n    "', ""))
    assert len(set(cited)) > 20
    assert set(cited) <= set(references.REFERENCES)


def test_every_part_of_the_configuration_has_words() -> None:
    """A part without words is shown as code."""
    known = {*data.READERS, *data.RULES, *training.LOSSES, *training.OPTIMIZERS, *training.SAMPLERS, *training.CONVOLUTIONS}
    known |= {training.ATTENTION_RESUNET, "attnunet.losses.WeightedSum", "attnunet.data.sampling.strata"}
    known |= {"attnunet.data.augment.Augment"}

    def targets(node: object) -> set[str]:
        values = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
        own = {str(node["_target_"])} if isinstance(node, Mapping) and "_target_" in node else set()
        return own.union(*map(targets, values))

    groups = ("data", "split", "model", "loss", "optimizer", "sampler", "augment")
    files = [file for group in groups for file in Path(config.CONF, group).glob("*.yaml")]
    found = set().union(*(targets(yaml.safe_load(file.read_text())) for file in files))
    transforms = {"attnunet.data.augment.SequenceDropout"}  # a transform is shown as code, as those of albumentations
    assert {name for name in found if not name.startswith("albumentations.")} - transforms <= known


def test_a_record_without_a_configuration_says_less_and_nothing_wrong(protocol: Protocol) -> None:
    text = methods.methods(record(config={}, decision={}, tags={})(protocol))
    assert "## Split\n\nThe numbers of patients were training 1, validation 12 and test 1 (slices: 2, 24 and 2)." in text
    assert "## Network" not in text
    assert "None" not in text


def test_of_the_masks_of_another_tool_no_training_is_told(protocol: Protocol) -> None:
    kept = {name: settings()[name] for name in ("data", "split", "evaluation")}
    given = record(config={"name": "nnunet", "masks": "/masks", **kept}, decision={})(protocol)
    text = methods.methods(given)
    assert "## Network\n\nThe masks came from another tool, `nnunet`, whose training is not recorded.\n" in text
    assert "Masks were scored by attnunet" in text
    for word in ("the network saw", "intensities", "threshold", "Training ran", "Networks"):
        assert word not in text
    mixed = replace(protocol, rows=(protocol.rows[0], given.rows[1]))
    assert training.loss(mixed).startswith("Varied: the loss was the sum of 1 times")
    assert training.loss(mixed).endswith("(row 1).")


def test_a_single_other_row_is_not_counted(protocol: Protocol) -> None:
    assert results.others(protocol) == "It was not told apart from the other row."


# The checklist.


def test_the_checklist_has_44_items_and_says_what_it_does_not_know(protocol: Protocol) -> None:
    text = claim.claim(protocol)
    assert re.findall(r"^(\d+)\. ", text, re.MULTILINE) == [str(number) for number in range(1, 45)]
    assert "44. **Funding.** The record does not know: the funding.\n" in text
    assert "20. **Level of disjointness.** The parts were disjoint by patient.\n" in text
    leaking = record(split={**ONE, "test": {"a": [3]}})(protocol)
    assert "20. **Level of disjointness.** The split LEAKS" in claim.claim(leaking)
    silent = claim.claim(record(config={})(protocol))
    assert "22. **The model.** The record does not know: the model.\n" in silent


# The tables.


@pytest.fixture(scope="module")
def awkward() -> Protocol:
    """Rows with names that others could have written."""
    scores = np.random.default_rng(0).beta(5, 2, (len(AWKWARD), 12))
    found = [{f"p{number:02}": float(score) for number, score in enumerate(own)} for own in scores]
    made = [run(number, own, loss=name) for number, (own, name) in enumerate(zip(found, AWKWARD, strict=True))]
    comparison = compare_rows(group_rows(made), "val", table(scores[:1]).question)
    blank = Facts({}, {}, {"parameters": 1234}, {}, {"val": {}}, "", {}, [])
    return Protocol(comparison, tuple(RowFacts(place, (blank,)) for place in comparison.standings), (), VERSIONS)


def test_the_tables_hold_the_numbers_of_the_leaderboard(protocol: Protocol) -> None:
    head, rows = tables.cells(protocol)
    place = protocol.comparison.standings[0]
    assert head == ["row", "loss", "Dice, mean (95% interval)", "median", "patients", "seeds"]
    assert rows[0] == [
        "1",
        "loss0",
        f"{place.mean:.3f} ({place.low:.3f} to {place.high:.3f})",
        f"{place.median:.3f}",
        "12",
        "1",
    ]
    counted = record(metrics={"parameters": 123456})(protocol)
    assert [line[-1] for line in tables.cells(counted)[1]] == ["123,456", "123,456"]
    mixed = replace(protocol, rows=(counted.rows[0], protocol.rows[1]))  # the masks of another tool have no parameters
    assert [line[-1] for line in tables.cells(mixed)[1]] == ["123,456", ""]


def test_latex_shows_names_unchanged() -> None:
    assert tables.latex("a_b 50% {x} #1 & $y$") == r"a\_b 50\% \{x\} \#1 \& \$y\$"
    assert tables.latex("\\~^<>|") == (
        r"\textbackslash{}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"
    )
    assert tables.latex("Zürich") == "Zürich"
    assert tables.latex("张\nþ") == r"\textbackslash{}u5f20\textbackslash{}n\textbackslash{}xfe"


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex with booktabs: Debian's texlive-latex-recommended")
def test_the_table_compiles(awkward: Protocol, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(tables.latex_table(awkward, "dice of $study & more_"))
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
    (tmp_path / "main.tex").write_text(document)
    result = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 1000


def test_markdown_keeps_each_name_in_its_cell(awkward: Protocol) -> None:
    lines = tables.markdown_table(awkward).splitlines()
    assert len(lines) == 2 + len(AWKWARD)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {8}
    assert r"\<script\>alert(1)\</script\>" in lines[-1] + "".join(lines)
    assert escape("a|b_c") == r"a\|b\_c"
    assert (code("a b"), code("a`b")) == ("`a b`", "`` a`b ``")


def test_all_files_are_written_whatever_the_names(awkward: Protocol) -> None:
    files = paper_files(awkward, "title")
    assert list(files) == ["table.tex", "table.md", "cohort.csv", "methods.md", "claim.md"]
    assert "The first of 12 rows, `loss=[x]`, reached" in files["methods.md"]


# The cohort.


def test_a_scan_is_counted_in_its_part(lgg_root: Path, tmp_path: Path) -> None:
    prepared = prepare(lgg(str(lgg_root), spacing=[3, 1, 1]), None, tmp_path)
    owners = {index: item.patient for index, item in enumerate(prepared.slices)}
    rows = list_scans(prepared, Split(tuple(range(0, 6)), tuple(range(6, 12)), (12, 13, 14), owners))
    assert [(row["part"], row["site"], row["slices"], row["lesion_slices"]) for row in rows] == [
        ("train", "CS", 6, 2),
        ("val", "CS", 6, 2),
        ("test", "CS", 3, 1),
    ]
    assert rows[0]["lesion_voxels"] == 2 * 64
    assert (rows[0]["spacing"], rows[0]["scan"]) == ("3 1 1", "")


def test_a_run_keeps_its_cohort(trained: Path) -> None:
    (record,) = runs_of_study(Store(trained / "mlruns", None, patience=0), "tried")
    scans = facts.read_facts(record).scans
    for part in ("train", "val", "test"):
        assert {row["patient"] for row in scans if row["part"] == part} == set(record.split[part])
        assert sum(int(row["slices"]) for row in scans if row["part"] == part) == len(record.slices(part))
    assert {row["lesion_voxels"] for row in scans} == {"128"}


def cohort_of(protocol: Protocol, part: str, site: str = "all", fold: str = "") -> dict[str, object]:
    rows = cohort.cohort_rows(protocol)
    (found,) = (row for row in rows if (row["part"], row["site"], row["fold"]) == (part, site, fold))
    return found


def test_the_cohort_has_quartiles_sites_and_missing_sequences(protocol: Protocol) -> None:
    scans = [
        *(scan("train", f"p{number}", 1000 * number, spacing="2 1 1", site="AA") for number in range(1, 5)),
        scan("val", "q", 500, spacing="2 1 1", site="BB", missing="post pre"),
        scan("val", "q", 700, spacing="2 1 1", site="BB", scan="later", missing="post"),
    ]
    found = cohort_of(record(scans=scans)(protocol), "train")
    assert found == {
        **{"rows": "1 2", "fold": "", "part": "train", "site": "all", "patients": 4, "scans": 4, "slices": "20"},
        # 2, 4, 6 and 8 ml: their quartiles are 3.5, 5 and 6.5 ml.
        **{"lesion_slices": "8", "volume_low": "3.50", "volume_median": "5.00", "volume_high": "6.50", "unit": "ml"},
        "missing": "",
    }
    val = cohort_of(record(scans=scans)(protocol), "val", "BB")
    assert (val["patients"], val["scans"], val["missing"]) == (1, 2, "post 2; pre 1")
    assert cohort_of(record(scans=scans)(protocol), "all")["patients"] == 5
    unknown = record(scans=[*scans, scan("test", "r", 9)])(protocol)
    assert (cohort_of(unknown, "train")["volume_median"], cohort_of(unknown, "train")["unit"]) == ("2500", "voxels")


def test_the_patients_of_a_cross_validation_are_listed_once(protocol: Protocol) -> None:
    folds = []
    for fold, names in (("0", "abc"), ("1", "cab")):
        scans = [scan(part, name, 10 * (ord(name) - 96)) for part, name in zip(("train", "val", "test"), names, strict=True)]
        split = {part: {name: [1]} for part, name in zip(("train", "val", "test"), names, strict=True)}
        folds.append(
            replace(
                protocol.rows[0].first,
                params={"split": "kfold", "split.folds": "2", "split.fold": fold},
                split=split,
                scans=scans,
            )
        )
    joined = replace(protocol, rows=(replace(protocol.rows[0], runs=tuple(folds)),))
    assert cohort_of(joined, "test", fold="0")["volume_median"] == "30"
    assert cohort_of(joined, "test", fold="1")["volume_median"] == "20"
    assert cohort_of(joined, "all")["volume_median"] == "20"
    assert data.sizes(joined).count("in fold 1, the numbers of patients were training 1, validation 1 and test 1") == 1


def test_a_scan_that_a_split_divides_counts_once(protocol: Protocol) -> None:
    divided = record(scans=[scan("train", "p", 10), scan("val", "p", 30)])(protocol)
    found = cohort_of(divided, "all")
    assert (found["patients"], found["scans"], found["slices"], found["volume_median"]) == (1, 1, "10", "40")


def test_an_earlier_run_tells_of_the_patients_that_it_scored() -> None:
    row = {
        "part": "val",
        "patient": "p",
        "site": "AA",
        "missing": "",
        "slices": "5",
        "lesion_slices": "2",
        "tp": "3",
        "fn": "4",
    }
    split = {"train": {"q": [1, 2, 3]}, "val": {"p": [1, 2, 3, 4, 5]}, "test": {}}
    scored, other = facts.derive_scans(split, [row], {"data": {"spacing": [3, 1, 1]}})
    assert (scored["lesion_voxels"], scored["spacing"], scored["scan"]) == ("7", "3 1 1", "")
    assert (other["patient"], other["slices"], other["lesion_voxels"]) == ("q", "3", "")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"spacing": "5 1 1"}, "in mm within the volume, with a tolerance of 2 mm"),
        ({"spacing": "5 1 1", "derived": True}, "in mm within the volume, with a tolerance of 2 mm"),
        ({"spacing": ""}, "in pixels within slices, because the spacing was unknown, with a tolerance of 2 pixels"),
        ({"spacing": "", "derived": True}, ""),
    ],
)
def test_a_unit_that_a_record_does_not_tell_is_left_out(changed: dict[str, Any], told: str, protocol: Protocol) -> None:
    """A run of volumes that keeps no cohort.csv knows no spacing, but its files may have told one."""
    scans = [scan("val", "p", spacing=changed["spacing"])]
    found = record(scans=scans, derived=changed.get("derived", False))(asked(score="surface_dice")(protocol))
    assert results.surfaces(found) == (f"Distances between surfaces were measured {told}." if told else "")


# The figures.


def test_figures_are_files_with_their_letters_and_always_the_same_bytes(tmp_path: Path) -> None:
    comparison = table(np.array([[0.5, 0.6, 0.7]]))
    for folder in ("one", "two"):
        save_all(comparison, tmp_path / folder)
    names = ["intervals.pdf", "intervals.svg"]
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == names
    pdf, svg = ((tmp_path / "one" / name).read_bytes() for name in names)
    assert (pdf, svg) == tuple((tmp_path / "two" / name).read_bytes() for name in names)
    assert b"/FontFile2" in pdf
    assert b"CreationDate" not in pdf
    assert b"<text" not in svg
    assert b"dc:date" not in svg
    assert b"#010203" not in svg
    assert b"fill: #ffffff" in svg
