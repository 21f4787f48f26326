"""Every file of conf/ composes, passes the check and makes what it names; what cannot run is refused with its reason."""

import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnunet import config
from attnunet.config import checks, objects, schema, signatures
from attnunet.sweeps.composition import CachingLoader, open_loader

GROUPS = (
    "model",
    "loss",
    "data",
    "split",
    "augment",
    "sampler",
    "optimizer",
    "trainer",
    "evaluation",
    "tracking",
    "experiment",
)
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted(Path(config.CONF, group).glob("*.yaml"))]


@pytest.fixture(autouse=True, scope="module")
def hydra() -> Iterator[None]:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        yield


@cache
def sweep(command: str) -> tuple[CachingLoader, DictConfig]:
    loader = open_loader(None)
    cfg = loader.load_configuration(command, [], RunMode.MULTIRUN)
    cfg.hydra.job.name = command
    return loader, cfg


def composed(*overrides: str, command: str = "train") -> DictConfig:
    """As a job of a sweep is composed, in a tenth of the time that Hydra takes."""
    loader, cfg = sweep(command)
    return config.without_hydra(loader.load_sweep_config(cfg, list(overrides)))


RUN = ("run=abc",)
"""What the commands beside train cannot do without, by name."""
COMMANDS = {
    "evaluate": (schema.Evaluate, RUN),
    "predict": (schema.Predict, (*RUN, "input=in", "output=out")),
    "export": (schema.Export, RUN),
    "export_split": (schema.ExportSplit, RUN),
}


def test_every_group_has_the_choices_of_the_contract() -> None:
    contract = {
        "model": {"conv", "separable"},
        "loss": {"focal", "dice", "focal_dice", "bce_dice", "jaccard", "focal_jaccard", "tversky", "focal_tversky"},
        "data": {"phantom", "lgg", "table"},
        "split": {"patient", "kfold", "site", "manifest", "slice"},
        "augment": {"none", "light", "mri"},
        "optimizer": {"adam", "adamw"},
        "trainer": {"default", "smoke"},
        "tracking": {"local", "server"},
        "experiment": {"original", "best"},
    }
    for group, names in contract.items():
        assert names <= {path.stem for path in Path(config.CONF, group).glob("*.yaml")}, group


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_passes_the_check(choice: str) -> None:
    extra = ["tracking.uri=http://127.0.0.1:5000"] if choice == "tracking=server" else []
    checks.check(composed(choice, *extra))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_and_passes_its_check(command: str) -> None:
    keys, needed = COMMANDS[command]
    checks.check_keys(composed(*needed, command=command), keys)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_every_command_needs_is_named(command: str) -> None:
    keys, (_, *others) = COMMANDS[command]
    with pytest.raises(config.ConfigError, match="run"):
        checks.check_keys(composed(*others, command=command), keys)


@pytest.mark.parametrize("choice", [c for c in CHOICES if c.startswith(("data", "split", "tracking"))])
def test_evaluate_takes_every_choice_of_its_groups(choice: str) -> None:
    extra = ["tracking.uri=http://127.0.0.1:5000"] if choice == "tracking=server" else []
    checks.check_keys(composed(*RUN, choice, *extra, command="evaluate"), schema.Evaluate)


@pytest.mark.parametrize(
    ("command", "overrides", "message"),
    [
        ("evaluate", [], "run=None, study=None: set one of the two"),
        ("evaluate", ["run=abc", "study=s"], "run=abc, study=s: set one of the two"),
        (
            "evaluate",
            ["study=s", "split=patient", "threshold=0.5"],
            "study=s: joins stored scores, and takes no split, threshold",
        ),
        ("evaluate", ["run=abc", "part=tests"], "part=tests: Input should be 'train', 'val', 'test' or 'all'"),
        ("evaluate", ["run=abc", "threshold=1.5"], "threshold=1.5: Input should be less than 1"),
        ("evaluate", ["run=abc", "smallest_lesion=-1"], "smallest_lesion=-1: Input should be greater than or equal to 0"),
        ("evaluate", ["run=abc", "name=a/b"], "name=a/b: String should match pattern"),
        ("evaluate", ["run=abc", "split=patient", "split.val=2"], "split.val=2: Input should be less than 1"),
        ("evaluate", ["run=abc", "+seed=1"], "seed: unknown key; allowed: run, study, part"),
        ("predict", ["run=abc", "input=in"], "output"),
        (
            "export",
            ["run=12345678"],
            "run=12345678: is read as a number; quote a text twice: 'run=\"...\"'",
        ),
        ("evaluate", ["study=s", "masks=m"], "masks=m: needs run=RUN_ID, whose patients are scored, and name=NAME"),
        ("evaluate", ["run=abc", "masks=m"], "masks=m: needs run=RUN_ID, whose patients are scored, and name=NAME"),
        ("evaluate", ["run=abc", "masks=m", "name=n", "part=val"], "masks=m: are scored as the run was, without part"),
        ("export_split", ["run=abc", "dataset=Brain"], "dataset=Brain: String should match pattern"),
        ("export_split", ["run=abc", "split=patient"], "run, split given; allowed: run=RUN_ID, or both"),
        (
            "evaluate",
            ["study=a", "part=val"],
            "study=a: joins stored scores, and takes no part; allowed: these with run=RUN_ID",
        ),
        ("evaluate", ["study=a", "allow_training_patients=true"], "study=a: joins stored scores, and takes no allow_training"),
        (
            "export",
            ["run=abc", "format=torch"],
            "format=torch: there is no such format; allowed: keras, savedmodel, onnx, litert, openvino",
        ),
    ],
)
def test_what_a_command_cannot_do_is_refused_by_key(command: str, overrides: list[str], message: str) -> None:
    with pytest.raises(config.ConfigError, match=message):
        checks.check_keys(composed(*overrides, command=command), COMMANDS[command][0])


@pytest.mark.parametrize("choice", [c for c in CHOICES if c.startswith(("loss", "optimizer", "model", "augment"))])
def test_every_choice_makes_its_object(choice: str) -> None:
    import keras

    small = ["model.filters=[4,8]"] if "filters" in composed(choice).model else []  # what counts is that the network is made
    cfg = composed(choice, *small)
    network = objects.make(cfg.model, "model")(32, 3)
    network.compile(objects.make(cfg.optimizer, "optimizer")(10), objects.make(cfg.loss, "loss")())
    assert network.output_shape == (None, 32, 32, 1)
    assert isinstance(network.loss, keras.losses.Loss)
    assert float(network.optimizer.learning_rate) == pytest.approx(cfg.optimizer.learning_rate)
    objects.make(cfg.augment, "augment")()


@pytest.mark.parametrize("choice", [c for c in CHOICES if c.startswith(("data", "split"))])
def test_every_target_of_data_and_split_exists(choice: str) -> None:
    group = choice.split("=", maxsplit=1)[0]
    assert callable(objects.make(composed(choice)[group], group))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epochs=ten"], "epochs=ten: Input should be a valid integer"),
        (["batch_size=0"], "batch_size=0: Input should be greater than 0"),
        (["seed=-1"], "seed=-1: Input should be greater than or equal to 0"),
        (["image_size=100"], "image_size=100: 5 model.filters halve the image 4 times, so it must be a multiple of 16"),
        (["epochs=null"], "epochs=None, budget_images=None: give one of the two"),
        (["budget_images=100"], "epochs=30, budget_images=100: give one of the two"),
        (["monitor=dice"], "monitor=dice: Input should be 'val/dice'"),
        (["+model.extra=1"], "model.extra: unknown key; allowed: .*filters"),
        (["model.filters=[]"], r"model.filters=\[\]: List should have at least 2 items"),
        (["model.filters=[8,0]"], "model.filters.1=0: Input should be greater than 0"),
        (["model.gate=big"], "model.gate=big: Input should be 'additive', 'concat' or 'none'"),
        (["model.dropout=1.0"], "model.dropout=1.0: Input should be less than 1"),
        (["optimizer.learning_rate=-1"], "optimizer.learning_rate=-1: Input should be greater than 0"),
        (["optimizer.schedule=step"], "optimizer.schedule=step: Input should be 'constant'"),
        (["loss.weights.dice=-1"], "loss.weights.dice=-1: Input should be greater than or equal to 0"),
        (["+loss.weights.bce=1"], "loss.weights=.*must name exactly loss.terms"),
        (["loss.terms.focal.gamma=x"], "loss.terms.focal.gamma=x: Input should be a valid number"),
        (["loss._target_=attnunet.losses.Foo"], "loss._target_=attnunet.losses.Foo: may not be named here; allowed: attnunet"),
        (["loss._target_=attnunet.lozzes.Foo"], "loss._target_=attnunet.lozzes.Foo: may not be named here; allowed: attnunet"),
        (["+trainer.speed=9"], "trainer.speed: unknown key; allowed: precision, jit_compile"),
        (["trainer.precision=float64"], "trainer.precision=float64: Input should be 'float32'"),
        (["trainer.lesion_share=1.5"], "trainer.lesion_share=1.5: Input should be less than or equal to 1"),
        (["evaluation.thresholds=[]"], r"evaluation.thresholds=\[\]: List should have at least 1 item"),
        (["evaluation.smallest_lesions=[-1]"], "evaluation.smallest_lesions.0=-1: Input should be greater than or equal to 0"),
        (["evaluation.fill_holes=[]"], r"evaluation.fill_holes=\[\]: List should have at least 1 item"),
        (["evaluation.flip=maybe"], "evaluation.flip=maybe: Input should be a valid boolean"),
        (["evaluation.tolerance=-1"], "evaluation.tolerance=-1: Input should be greater than or equal to 0"),
        (["data.spacing=[1,1]"], r"data.spacing=\[1, 1\]: List should have at least 3 items"),
        (["data.spacing=[3,1,0]"], "data.spacing.2=0: Input should be greater than 0"),
        (["split.val=-0.1"], "split.val=-0.1: Input should be greater than or equal to 0"),
        (["data.intensity=log"], "data.intensity=log: Input should be 'raw', 'percentile' or 'zscore'"),
        (["tracking=server"], "tracking.uri"),
        (["tracking=server", "tracking.uri=http://me:secret@host"], "tracking.uri: holds credentials"),
        (["+unheard=1"], "unheard: unknown key; allowed: seed, image_size"),
        (["model.depths=[1,2]"], r"model.depths=\[1, 2\]: 2 levels; allowed: a number for each of the 5 model.filters"),
        (["batch_size=1"], "trainer.lesion_share=0.5: gives 0 slices with a lesion in a batch of batch_size=1"),
        (
            ["trainer.lesion_share=0.99"],
            "trainer.lesion_share=0.99: gives 16 slices with a lesion in a batch of batch_size=16",
        ),
        (["sampler.lesion_share=0.01"], "sampler.lesion_share=0.01: gives 0 slices with a lesion"),
        (["evaluation.thresholds=[0.5,0.4]"], r"evaluation.thresholds=\[0.5, 0.4\]: must ascend"),
        (["split.seed=-1"], "split.seed=-1: Input should be greater than or equal to 0"),
        (["+optimizer.steps=3"], "optimizer.steps: unknown key; allowed: learning_rate"),
        (["+model.image_size=64"], "model.image_size: unknown key; allowed: filters"),
        (["+split.subjects=3"], "split.subjects: unknown key; allowed: val"),
        (["optimizer=adamw", "optimizer.weight_decay=abc"], "optimizer.weight_decay=abc: Input should be a valid number"),
        (["loss._target_=nowhere.Loss"], "loss._target_=nowhere.Loss: may not be named here; allowed: attnunet"),
        (["data.exclude=[{a:1}]"], "data.exclude.0="),
        (
            ["data.exclude=[1_2]"],
            r"data.exclude.0=12: is read as a number; quote .* twice: 'data.exclude=\[\"\.\.\.\"\]'",
        ),
        (["data.exclude=1_2"], r"data.exclude=12: is read as a number; .* twice: 'data.exclude=\"\.\.\.\"'"),
        (["data.exclude=[true]"], "data.exclude.0=True: is read as true or false; quote"),
        (["first_sizes=[60]"], "first_sizes=60: 5 model.filters halve the image 4 times, so it must be a multiple of 16"),
        (["first_sizes=[96,64]"], r"first_sizes=\[96, 64\]: must ascend and stay below image_size=128"),
        (["first_sizes=[128]"], r"first_sizes=\[128\]: must ascend and stay below image_size=128"),
        (
            ["first_sizes=[64,96]", "epochs=2"],
            r"first_sizes=\[64, 96\]: 3 sizes take as many epochs; allowed: epochs=3 or",
        ),
        (["first_sizes=[64]", "trainer.jit_compile=true"], r"first_sizes=\[64\]: XLA compiles one size only; allowed:"),
        (["trainer.mean_of_last=0"], "trainer.mean_of_last=0: Input should be greater than 0"),
        (["data.exclude=[1e5]"], "data.exclude.0=100000.0: is read as a number; quote"),
        (["data=table", "data.file_channels=[1]"], "data.file_channels.0=1: is read as a number; quote"),
        (
            ["split=site", "split.site=1_2"],
            "split.site=12: is read as a number; quote a text twice",
        ),
        (["study=20_24"], "study=2024: is read as a number; quote"),
        # Numbers that no run can mean.
        (
            ["loss.weights.focal=0", "loss.weights.dice=0"],
            "loss.weights={.*}: no term has a weight; allowed: at least one weight",
        ),
        (["loss.weights.focal=inf"], "loss.weights.focal=inf: must be a finite number"),
        (["loss.weights.focal=nan"], "loss.weights.focal=nan: must be a finite number"),
        (["augment.transforms.1.rotate.0=nan"], "augment.transforms.1.rotate.0=nan: must be a finite number"),
        (["optimizer.learning_rate=inf"], "optimizer.learning_rate=inf: must be a finite number"),
        (["optimizer.learning_rate=1e6"], "optimizer.learning_rate=1000000.0: Input should be less than or equal to 1"),
        (["data.channels=[flair,flair]"], r"data.channels=\['flair', 'flair'\]: allowed: each channel once"),
        (["data.spacing=[1,1,inf]"], "data.spacing.2=inf: must be a finite number"),
        (["data.spacing=[1,1,1e9]"], "data.spacing.2=1000000000.0: Input should be less than or equal to 1000"),
        (["evaluation.tolerance=inf"], "evaluation.tolerance=inf: must be a finite number"),
        (["evaluation.batch_size=1000000000"], "evaluation.batch_size=1000000000: Input should be less than or equal to 4096"),
        (["trainer.threads=100000"], "trainer.threads=100000: Input should be less than or equal to 1024"),
        (["trainer.workers=1000"], "trainer.workers=1000: Input should be less than or equal to 128"),
        (["epochs=12345678901234567890123456789012"], "epochs=1234567890.*: Input should be less than or equal to 100000"),
        (["image_size=1e20"], r"image_size=1e\+20: Input should be a valid integer"),
        (["image_size=65536"], "image_size=65536: Input should be less than or equal to 4096"),
        # What a `_target_` stands for, and what stands beside it.
        (["+loss._partial_=true"], "loss._partial_=True: allowed: only beside a `_target_` that is an argument"),
        (
            ["+loss.terms.dice._partial_=true"],
            "dice=attnunet.losses.Dice: must be a `_target_`, without `_partial_: true`",
        ),
        (["+loss._convert_=all"], "loss._convert_: unknown key; allowed beside arguments: _target_, _partial_"),
        (["+model.convolution._args_=[1]"], r"model.convolution._args_: unknown key; allowed beside arguments"),
        (["~loss._target_"], "loss: lacks `_target_`, the function or class"),
        (["model.convolution=foo"], "model.convolution=foo: must be a `_target_` with `_partial_: true`"),
        (["model.convolution._partial_=false"], "model.convolution=keras.layers.SeparableConv2D: must be a `_target_` with"),
        (["model.convolution._target_=keras.layers.Conv2DD"], "Conv2DD: keras.layers has no such class"),
        (["~model.convolution"], "model.convolution: is missing"),
        (["~model.filters"], "model.filters: is missing"),
        (["~loss"], "loss: is missing; allowed: bce_dice, dice, "),
        (["~trainer.workers"], "trainer.workers: is missing"),
        (["loss.terms=null"], "loss.terms=None: Input should be a valid dictionary"),
        (["loss.terms.dice=5"], "loss.terms.dice=5: must be a `_target_`, without `_partial_: true`"),
        (["augment.transforms=null"], "augment.transforms=None: Input should be a valid list"),
        (["augment.transforms=[5]"], "augment.transforms.0=5: must be a `_target_` with `_partial_: true`"),
        (
            ["augment.transforms=[{_target_:albumentations.Rotate}]"],
            "0=albumentations.Rotate: must be a `_target_` with",
        ),
        (
            ["augment.transforms=[{_target_:os.system,command:ls}]"],
            "transforms.0._target_=os.system: may not be named",
        ),
        # Names and addresses.
        (["tracking.uri=foo"], "tracking.uri=foo: allowed: http://HOST:PORT"),
        (["tracking.uri=ftp://host"], "tracking.uri=ftp://host: allowed: http://HOST:PORT"),
        (["tracking.uri=http://host:port"], "tracking.uri=http://host:port: allowed: http://HOST:PORT"),
        (["study=../../x"], "study=../../x: allowed: letters, digits"),
        (["study=a/b"], "study=a/b: allowed: letters, digits"),
        (["study=.."], "study=..: allowed: letters, digits"),
        (["study=' a'"], "study= a: allowed: letters, digits"),
        (["study=''"], "study=: String should have at least 1 character"),
        ([f"study={'x' * 501}"], "study=x*: is too long; allowed: 200 bytes"),
        (["study=${nothing}"], "study: Interpolation key 'nothing' not found; allowed: a value"),
    ],
)
def test_what_cannot_run_is_refused_by_key_value_and_what_is_allowed(overrides: list[str], message: str) -> None:
    with pytest.raises(config.ConfigError, match=message):
        checks.check(composed(*overrides))


@pytest.mark.parametrize("name", ["010", "0x1F", "001", '"1_2"'])
def test_a_name_on_the_command_line_stays_as_written(name: str) -> None:
    cfg = composed("split=site", f"split.site={name}", f"data.exclude=[{name}]", f"study={name}")
    checks.check(cfg)
    assert [cfg.split.site, *cfg.data.exclude, cfg.study] == 3 * [name.strip('"')]


@pytest.mark.parametrize("override", ["loss.weights.focal=0", "study='Grüße, 2. Versuch'", "tracking.uri=https://host/mlflow"])
def test_what_can_run_is_not_refused(override: str) -> None:
    checks.check(composed(override))


@pytest.mark.parametrize(
    ("composition", "typed", "lengths"),
    [
        ([], [], (30, None)),
        ([], ["budget_images=17000"], (None, 17000)),
        ([], ["epochs=null", "budget_images=17000"], (None, 17000)),
        (["experiment=phantom"], ["budget_images=17000"], (None, 17000)),  # the recipe sets epochs
        (["budget_images=500"], [], (None, 500)),  # as a recipe would
        (["budget_images=500"], ["epochs=3"], (3, None)),  # the command line has the last word
        (["budget_images=500"], ["budget_images=null"], (30, None)),
        ([], ["++epochs=4"], (4, None)),
    ],
)
def test_a_budget_alone_is_enough(composition: list[str], typed: list[str], lengths: tuple[int | None, int | None]) -> None:
    cfg = config.settle(composed(*composition, *typed), typed)
    assert (cfg.epochs, cfg.budget_images) == lengths
    checks.check(cfg)


@pytest.mark.parametrize("typed", [["epochs=3", "budget_images=17000"], ["epochs=null"]])
def test_two_lengths_or_none_are_refused(typed: list[str]) -> None:
    with pytest.raises(config.ConfigError, match=r"epochs=.*, budget_images=.*: give one of the two"):
        checks.check(config.settle(composed(*typed), typed))


def test_a_smoke_run_leaves_a_model_of_the_users_own_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: mine.network\ndepth: 2\n")
    cfg = compose("train", ["trainer=smoke", "model=mine", f"hydra.searchpath=[file://{tmp_path}]"])
    assert dict(cfg.model) == {"_target_": "mine.network", "depth": 2}
    for model in ("conv", "separable"):
        assert composed("trainer=smoke", f"model={model}").model.filters == [4, 8, 16]
        assert composed(f"model={model}").model.filters == [16, 32, 64, 128, 256]
        assert composed("trainer=smoke", f"model={model}", "model.filters=[8,16]").model.filters == [8, 16]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(config.ConfigError, match=f"tracking.root=.*: {tmp_path}/file is not a folder; allowed: "):
        config.check_folder("tracking.root", f"{tmp_path}/file/x")
    with pytest.raises(config.ConfigError, match=r"tracking\.root=.*: .* File name too long; allowed: "):
        config.check_folder("tracking.root", str(tmp_path / ("x" * 300)))
    config.check_folder("tracking.root", str(tmp_path / "a" / "b"))
    monkeypatch.setattr("os.access", lambda *_: False)  # for root all can be written to
    with pytest.raises(config.ConfigError, match=f"{tmp_path} cannot be written to; allowed: "):
        config.check_folder("tracking.root", str(tmp_path / "a"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_credentials_are_not_repeated_in_the_message() -> None:
    with pytest.raises(config.ConfigError) as refused:
        checks.check(composed("tracking=server", "tracking.uri=http://me:secret@host"))
    assert "secret" not in str(refused.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(config.ConfigError) as refused:
        checks.check(composed("batch_size=0", "epochs=ten"))
    assert len(str(refused.value).splitlines()) == 2


def test_an_experiment_changes_what_it_names_and_the_command_line_has_the_last_word() -> None:
    cfg = composed("experiment=original", "model.gate=none")
    assert cfg.study == "original"
    assert cfg.loss._target_ == "attnunet.losses.BinaryFocal"
    assert cfg.model.gate == "none"
    assert composed("experiment=original").model.gate == "concat"


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("original", "recipe_conv", {"model"}),
        ("recipe_conv", "recipe_loss", {"loss"}),
        ("recipe_loss", "recipe_augment", {"augment"}),
        ("recipe_augment", "recipe_sampler", {"sampler", "trainer"}),  # the share of lesions, which this sampler does not use
        ("recipe_sampler", "recipe_neighbors", {"neighbors"}),
        ("recipe_neighbors", "recipe_gates", {"model"}),
        ("recipe_gates", "recipe_depths", {"model"}),
        ("recipe_depths", "recipe_average", {"optimizer"}),
        ("recipe_average", "best", {"augment", "study", "epochs", "budget_images"}),  # and the length
        ("parts", "parts_gates", {"model"}),
        ("parts", "parts_residual", {"model"}),
        ("parts", "parts_augment", {"augment"}),
        ("parts", "parts_sequences", {"augment"}),
        ("parts", "parts_mri", {"augment"}),
        ("parts", "parts_mri_dropout", {"augment"}),
        ("parts", "parts_sampler", {"sampler"}),
        ("parts", "parts_neighbors", {"neighbors"}),
    ],
)
def test_each_step_of_a_study_changes_one_thing(before: str, after: str, changed: set[str]) -> None:
    first, second = (OmegaConf.to_container(composed(f"experiment={name}"), resolve=True) for name in (before, after))
    assert {key for key in first if first[key] != second[key]} == changed


def test_a_signature_is_read_with_its_ranges_and_without_an_import() -> None:
    read = signatures.signature("attnunet.data.split.kfold")
    assert read is not None
    assert list(read) == ["subjects", "folds", "fold", "val", "seed"]
    assert "Ge(ge=2)" in str(read["folds"])
    assert "Ge(ge=0)" in str(read["val"])  # an alias of the module


def test_the_check_leaves_the_configuration_as_it_was() -> None:
    cfg = composed()
    before = OmegaConf.to_yaml(cfg)
    checks.check(cfg)
    assert OmegaConf.to_yaml(cfg) == before


def test_a_sampler_without_strata_takes_any_batch() -> None:
    checks.check(composed("sampler=patient_first", "batch_size=1"))


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("/data/mine", "data.root=/data/mine"),
        ("/my data", "'data.root=/my data'"),
        ("/a (1)", "'data.root=\"/a (1)\"'"),
        ("/é=[x]", "'data.root=\"/é=[x]\"'"),
        ('/say "a,b"', r"""'data.root="/say \"a,b\""'"""),
        ("12345678", "'data.root=\"12345678\"'"),
        ("1e5", "'data.root=\"1e5\"'"),
    ],
)
def test_a_text_is_written_as_it_must_be_typed(text: str, typed: str) -> None:
    assert config.format_override("data.root", text) == typed
    (word,) = shlex.split(typed)
    assert composed("data=lgg", word).data.root == text


@pytest.mark.parametrize(
    ("texts", "typed"),
    [
        (["ab12", "cd34"], "'data.exclude=[ab12,cd34]'"),
        (["12345678", "cd34"], '\'data.exclude=["12345678","cd34"]\''),
        (["a,b"], "'data.exclude=[\"a,b\"]'"),
    ],
)
def test_a_list_is_written_as_it_must_be_typed(texts: list[str], typed: str) -> None:
    assert config.format_override("data.exclude", texts) == typed
    (word,) = shlex.split(typed)
    assert composed("data=lgg", "data.root=x", word).data.exclude == texts
