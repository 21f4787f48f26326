"""Sentences on the network, its training, and the choice of the checkpoint and the decision."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnunet.comparison.pairs import plural
from attnunet.comparison.paper.facts import RowFacts
from attnunet.comparison.paper.text import by_row, code, listed, name_target
from attnunet.tracking.labels import format_call

ATTENTION_RESUNET = "attnunet.models.attention_resunet.attention_resunet"
CONVOLUTIONS = {
    "keras.layers.Conv2D": "ordinary convolutions",
    "keras.layers.SeparableConv2D": "depthwise separable convolutions (Chollet 2017)",
}
GATES = {
    "additive": "additive attention gates (Oktay et al. 2018)",
    "concat": "attention gates (Oktay et al. 2018) that concatenate their two inputs instead of adding them",
    "none": "no attention gates",
}
NORMALIZATIONS = {
    "batch": "batch normalisation (Ioffe and Szegedy 2015) with a momentum of {bn_momentum:g}",
    "group": "group normalisation (Wu and He 2018)",
    "instance": "instance normalisation (Ulyanov et al. 2016)",
}
LOSSES = {
    "attnunet.losses.BinaryCrossentropy": "binary cross-entropy",
    "attnunet.losses.BinaryFocal": "binary focal loss (Lin et al. 2017; gamma {gamma:g}, weight of lesion pixels "
    "{pos_weight:g})",
    "attnunet.losses.Dice": "soft Dice loss without squares (after Milletari et al. 2016; over {over}, smoothing {smooth:g})",
    "attnunet.losses.Jaccard": "soft Jaccard loss (over {over}, smoothing {smooth:g})",
    "attnunet.losses.Tversky": "Tversky loss (Salehi et al. 2017; weight of false positives {alpha:g}, of false negatives "
    "{beta:g}, over {over}, smoothing {smooth:g})",
    "attnunet.losses.FocalTversky": "focal Tversky loss (Abraham and Khan 2019; exponent {gamma:g}, weight of false positives "
    "{alpha:g}, of false negatives {beta:g}, over {over}, smoothing {smooth:g})",
}
OPTIMIZERS = {
    "attnunet.training.schedules.adam": "Adam (Kingma and Ba 2015)",
    "attnunet.training.schedules.adamw": "AdamW (Loshchilov and Hutter 2019; weight decay {weight_decay:g})",
}
SCHEDULES = {
    "constant": "stayed constant",
    "cosine": "fell to 0 along a cosine (Loshchilov and Hutter 2017, without restarts)",
    "polynomial": "fell to 0 as a polynomial of degree 0.9 (as in Isensee et al. 2021)",
}
SAMPLERS = {
    "attnunet.data.sampling.patient_first": "training slices were drawn patient by patient, each patient equally often; the "
    "chance of a slice was proportional to {floor:g} plus its share of the patient's largest lesion area to the power of "
    "{power:g}",
}


@by_row
def other_tool(row: RowFacts) -> str:
    name = code(row.first.get("name", ""))
    return f"the masks came from another tool, {name}, whose training is not recorded" if row.first.given else ""


@by_row
def network(row: RowFacts) -> str:
    model = row.first.get("model")
    if not isinstance(model, Mapping):
        return ""
    if model["_target_"] != ATTENTION_RESUNET:
        return f"the network was {code(format_call(model))}"
    norm = NORMALIZATIONS[model.get("norm", "batch")].format(**model)
    blocks = "residual blocks (He et al. 2016)" if model.get("residual", True) else "blocks without shortcuts"
    return (
        f"the network was a U-Net (Ronneberger et al. 2015) of {blocks} with {GATES[model.get('gate', 'additive')]} and {norm}"
    )


@by_row
def convolutions(row: RowFacts) -> str:
    if row.first.get("model._target_") != ATTENTION_RESUNET:
        return ""
    return f"the 3 x 3 convolutions of its blocks were {name_target(row.first.get('model.convolution'), CONVOLUTIONS)}"


@by_row
def filters(row: RowFacts) -> str:
    if row.first.get("model._target_") != ATTENTION_RESUNET:
        return ""
    return f"from the finest level to the bottleneck, it had {listed(row.first.get('model.filters'))} feature maps"


@by_row
def variants(row: RowFacts) -> str:
    """Return what a network of attnunet has beyond its usual parts."""
    depths, dropout = row.first.get("model.depths"), row.first.get("model.dropout")
    parts = []
    if depths:
        parts.append(f"{listed(depths)} blocks in a row at its levels")
    if dropout:
        parts.append(f"spatial dropout (Tompson et al. 2015) of {dropout:g} of the feature maps")
    if row.first.get("model.deep_supervision"):
        parts.append("deep supervision (Lee et al. 2015)")
    return f"it had {listed(parts)}" if parts else ""


@by_row
def parameters(row: RowFacts) -> str:
    count = row.first.parameters
    macs = row.first.metrics.get("macs")
    cost = f" and took {macs:,.0f} multiplications for an image" if macs else ""
    return f"it had {count:,} parameters{cost}" if count else ""


@by_row
def start(row: RowFacts) -> str:
    if not row.first.get("model"):
        return ""
    origin = row.first.get("init")
    return (
        f"training started from the best weights of run {code(origin)}" if origin else "training started from random weights"
    )


@by_row
def loss(row: RowFacts) -> str:
    node = row.first.get("loss")
    return f"the loss was the {describe_loss(node)}" if node else ""


def describe_loss(node: Mapping[str, Any]) -> str:
    """Return a loss in words. A weighted sum names its terms with their weights."""
    if "terms" in node and "weights" in node:
        return "sum of " + " plus ".join(
            f"{node['weights'][name]:g} times the {describe_loss(term)}" for name, term in node["terms"].items()
        )
    return name_target({**node, "over": "each image" if node.get("per_image") else "the whole batch"}, LOSSES)


@by_row
def optimizer(row: RowFacts) -> str:
    node = row.first.get("optimizer")
    if not node:
        return ""
    name = name_target(node, OPTIMIZERS)
    if node["_target_"] not in OPTIMIZERS:
        return f"the optimizer was {name}"
    rise = f" after a linear rise over the first {node['warmup']:.3g} of the run" if node.get("warmup") else ""
    return f"the optimizer was {name}; the learning rate was {node['learning_rate']:g} and {SCHEDULES[node['schedule']]}{rise}"


@by_row
def averaging(row: RowFacts) -> str:
    momentum = row.first.get("optimizer.ema")
    if not momentum:
        return ""
    return (
        "a moving average of the weights was scored and kept (after Polyak and Juditsky 1992); "
        f"its momentum rose to at most {momentum:g}"
    )


@by_row
def length(row: RowFacts) -> str:
    budget, epochs, batch = (row.first.get(key) for key in ("budget_images", "epochs", "batch_size"))
    if budget:
        took = f"about {budget:,} draws of training slices"
    elif epochs:
        took = f"{plural(epochs, 'epoch')}, each of as many draws as there were training slices"
    else:
        return ""
    patience = row.first.get("trainer.early_stopping")
    early = (
        f", and stopped after {plural(patience, 'epoch')} without a better {code(row.first.get('monitor'))}"
        if patience
        else ""
    )
    return f"a run took {took}, in batches of {batch}{early}"


@by_row
def sampler(row: RowFacts) -> str:
    node = row.first.get("sampler")
    if node and "lesion_share" not in node:
        return name_target(node, SAMPLERS)
    share = row.first.get("sampler.lesion_share" if node else "trainer.lesion_share")
    if not row.first.get("loss"):
        return ""
    if share is None:
        return "training slices were drawn at random, each equally often"
    return f"a share of {share:g} of the slices in each batch showed a lesion"


@by_row
def augmentation(row: RowFacts) -> str:
    transforms = row.first.get("augment.transforms")
    if transforms is None:
        return ""
    if not transforms:
        return "training images were not augmented"
    calls = listed(code(format_call(transform)) for transform in transforms)
    return f"training images were augmented by albumentations (Buslaev et al. 2020): {calls}"


@by_row
def seeds(row: RowFacts) -> str:
    found = [seed for seed in row.place.row.seeds if seed]
    if not found:
        return ""
    return f"training used {'the seed' if len(found) == 1 else 'the seeds'} {listed(found)}"


@by_row
def precision(row: RowFacts) -> str:
    name = row.first.get("trainer.precision")
    if not name:
        return ""
    compiled = ", compiled by XLA" if row.first.get("trainer.jit_compile") else ""
    return f"training computed in {code(name)}{compiled}"


@by_row
def growth(row: RowFacts) -> str:
    sizes = row.first.get("first_sizes")
    if not sizes:
        return ""
    return f"the training images were {listed(sizes)} pixels wide in the first parts of a run, which were equally long"


@by_row
def checkpoint(row: RowFacts) -> str:
    monitor, last = row.first.get("monitor"), row.first.get("trainer.mean_of_last")
    if not monitor:
        return ""
    if last:
        mean = f"the mean of the weights after each of the last {last} epochs was kept (after Izmailov et al. 2018)"
        return mean if last > 1 else "the weights of the last epoch were kept"
    best = ", the mean Dice of the validation patients at the best of the thresholds tried" if monitor == "val/dice" else ""
    return f"after each epoch the validation patients were scored; the weights with the best {code(monitor)}{best}, were kept"


@by_row
def decision(row: RowFacts) -> str:
    tried = row.first.get("evaluation")
    if not tried or not row.first.decision:
        return ""
    thresholds, sizes, fills = (tried[name] for name in ("thresholds", "smallest_lesions", "fill_holes"))
    holes = "were filled or kept" if len(fills) > 1 else f"were {'filled' if fills[0] else 'kept'}"
    clause = (
        f"lesion was where the probability was at least a threshold, {one_of(thresholds)}; then components of the volume with "
        f"fewer voxels than a smallest size, {one_of(sizes)}, were removed, and holes within slices {holes}"
    )
    if max(map(len, (thresholds, sizes, fills))) > 1:
        clause += (
            "; the threshold was chosen first, then the rest, each by the highest mean Dice of the validation patients, and "
            "both were frozen before any test patient was scored"
        )
    return clause


def one_of(values: Sequence[float]) -> str:
    """Return the values that a choice was made among, in words."""
    if len(values) > 6:
        return f"one of {len(values)} values from {min(values):g} to {max(values):g}"
    return f"{'one of ' if len(values) > 1 else ''}{listed(f'{value:g}' for value in values)}"


@by_row
def chosen(row: RowFacts) -> str:
    """Return the different decisions of a row's runs."""
    found = [facts.decision for facts in row.runs if facts.decision.get("threshold")]
    words = [
        f"threshold {float(one['threshold']):g}, smallest lesion {one['smallest_lesion']} voxels, holes "
        f"{'filled' if int(float(one['fill_holes'])) else 'kept'}"
        for one in found
    ]
    return f"the choices of the runs were {'; '.join(dict.fromkeys(words))}" if words else ""


@by_row
def mirror(row: RowFacts) -> str:
    flip = row.first.get("evaluation.flip")
    return "probabilities were means of an image's and of its mirror image's" if flip else ""
