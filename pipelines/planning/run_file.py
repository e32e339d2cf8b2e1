"""The text of a run file in which each chosen number has its reason as a comment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from textwrap import wrap
from typing import Any

from scalenet_gp.options import to_yaml_length
from scalenet_gp.pipelines.config import to_yaml
from scalenet_gp.pipelines.planning.choices import DEFAULT_MEMORY, MIDDLE, NetworkChoice
from scalenet_gp.pipelines.planning.class_balance import class_shares, class_weights
from scalenet_gp.pipelines.planning.fingerprint import ClassFingerprint, Fingerprint, Size

__all__ = ["HeldOut", "fresh_text", "planned_text"]

_WIDTH = 120
_PASSES = 10
_ITERATIONS = (4000, 40_000)
_VALIDATIONS = 20
_RARER = "in inverse proportion to the root of its share of the annotation"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The way in which annotation is kept for validation.

    Attributes:
        reason: a sentence.
        train: the part ``training.region``, if any.
        validate: the part ``validation.region``, if any.
        evaluate: the part ``evaluation.region``, if any.
        split: the part ``data.split``, if any.
        validated: whether there is anything to validate with.

    Example:
        >>> HeldOut("each source says its use", validated=True).split is None
        True
    """

    reason: str
    train: Mapping[str, Any] | None = None
    validate: Mapping[str, Any] | None = None
    evaluate: Mapping[str, Any] | None = None
    split: Mapping[str, Any] | None = None
    validated: bool = False


def planned_text(
    data: Mapping[str, Any],
    fingerprint: Fingerprint,
    choice: NetworkChoice,
    held_out: HeldOut,
    voxels: float,
    memory: int | None,
    drawn: Collection[str],
) -> str:
    """Return the text of a run file.

    Args:
        data: the part ``data``, plain.
        fingerprint: its fingerprint.
        choice: the network.
        held_out: the validation.
        voxels: annotated voxels to learn from, of the finest scale.
        memory: bytes that a training step may take, if a user has named them.
        drawn: classes that a sample can be laid on.
    """
    fractions = {name: one.fraction for name, one in fingerprint.classes.items()}
    shared = {name: fractions[name] for name in drawn}
    dims, sizes = len(choice.block), [scale.voxel_size for scale in choice.scales]
    finest = sizes[-1]
    coarse = [axis for axis in range(dims) if finest[axis] > 2 * min(finest)]
    iterations = _iterations(voxels, choice)
    lines = ["# Written by `scalenet-gp plan`. Change any number: nothing depends on the comments.", "version: 1"]
    lines += _comment(_class_lines(fingerprint), "")
    several = len(fingerprint.sources) > 1
    lines += _data_lines(data, held_out, shared, several=several)
    lines += ["network:", "  kind: scalenet"]
    lines += _comment([f"From coarse to fine. No coarser scale: {choice.end}.", *_context_line(choice)], "  ")
    lines += ["  subnets:"]
    told = False
    for scale, subnet in zip(choice.scales, choice.network["subnets"], strict=True):
        lines += _comment([f"{scale.reason[0].upper()}{scale.reason[1:]}."], "  ")
        if "kernel_sizes" in subnet and not told:
            told = True
            thick = (
                "Levels leave an axis alone that is more than twice as coarse as the others: kernels and factors of 1."
            )
            lines += _comment([thick], "  ")
        elif "downsample_factors" in subnet and not told:
            told = True
            once = (
                "One downsampling: context comes from coarser scales; with two, a sample is about eight times the work."
            )
            lines += _comment([once], "  ")
        lines.append(f"  - {to_yaml(_plain(subnet))}")
    lines += _augmentation_lines(finest, coarse)
    lines += ["training:"]
    if held_out.train is not None:
        lines += _comment([f"{held_out.reason}."], "  ")
        lines.append(f"  region: {to_yaml(_plain(held_out.train))}")
    lines += _size_lines(choice, memory)
    if not several:
        lines += _comment([f"Half of the samples hold a voxel of a class that is drawn {_RARER}."], "  ")
        lines.append(f"  sampler: {{kind: class, shares: {to_yaml(class_shares(shared, Fraction(1, 2)))}}}")
    if len(weights := class_weights(fractions)) > 1:
        lines += _comment(
            ["The loss of each class in inverse proportion to the fourth root of its share, 1 on average."], "  "
        )
        lines.append(f'  targets: {{"*": {{kind: classes, class_weights: {to_yaml(weights)}}}}}')
    lines += _comment(
        [
            f"About {_PASSES} times the {voxels:,.0f} annotated voxels to learn from, within {_ITERATIONS[0]:,} to "
            f"{_ITERATIONS[1]:,} iterations. More of them help as long as validation gets better."
        ],
        "  ",
    )
    lines.append(f"  iterations: {iterations}")
    lines += ["  workers: 1  # prepares batches while the network learns"]
    lines += _comment(
        [
            "Optimizer, learning rate, normalization and the kind of loss are the defaults: AdamW at 0.01 with a "
            "cosine, batch normalization. `scalenet-gp config show` prints them."
        ],
        "  ",
    )
    if held_out.train is None and held_out.split is None:
        lines += _comment([f"{held_out.reason}."], "")
    if held_out.validated:
        lines += ["validation:"]
        if held_out.validate is not None:
            lines.append(f"  region: {to_yaml(_plain(held_out.validate))}")
        lines.append(f"  every: {max(1, iterations // _VALIDATIONS)}  # {_VALIDATIONS} times in the run")
    lines += ["prediction:"]
    lines += _comment(["About as long along each axis, whole voxels of every output, within the memory above."], "  ")
    lines.append(f"  block_shape: {to_yaml(_plain(choice.block))}")
    if held_out.evaluate is not None:
        lines += ["evaluation:  # neither learned from nor used to choose the best network"]
        lines.append(f"  region: {to_yaml(_plain(held_out.evaluate))}")
    return "\n".join(lines) + "\n"


def _class_lines(fingerprint: Fingerprint) -> list[str]:
    heads = ("class", "share", "objects", "thickness 5, 50 %", "extent 50, 95 %", "gap (nm)")
    rows = [heads, *(_class_row(name, one) for name, one in fingerprint.classes.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return ["The annotation, see fingerprint.json:", *(f"  {row}" for row in table)]


def _class_row(name: str, one: ClassFingerprint) -> tuple[str, ...]:
    pairs = ["-" if pair is None else f"{pair[0]:.0f}, {pair[1]:.0f}" for pair in (one.thickness, one.extent)]
    return name, f"{one.fraction:.2%}", str(one.objects), *pairs, "-" if one.gap is None else f"{one.gap:.0f}"


def _data_lines(
    data: Mapping[str, Any], held_out: HeldOut, fractions: Mapping[str, float], *, several: bool
) -> list[str]:
    lines = ["data:"]
    for key, value in data.items():
        if key == "sources":
            lines += ["  sources:", *(f"  - {to_yaml(entry)}" for entry in value)]
        else:
            lines.append(f"  {key}: {to_yaml(value)}")
    if held_out.split is not None:
        lines += _comment([f"{held_out.reason}."], "  ")
        lines.append(f"  split: {to_yaml(held_out.split)}")
    if several and "sampling" not in data:
        lines += _comment([f"All samples hold a voxel of a class that is drawn {_RARER}."], "  ")
        shares = to_yaml(class_shares(fractions, Fraction(1)))
        lines.append(f"  sampling: {{by: class, temperature: 0.5, shares: {shares}}}")
    if "intensities" not in data:
        lines += ["  intensities: auto  # percentiles 0.5 and 99.5 of the tissue, which the run keeps"]
    return lines


def _context_line(choice: NetworkChoice) -> list[str]:
    return [
        f"Of the middle of what the network sees ({MIDDLE:.0%} along each axis, with most of the gradient), "
        f"{choice.share:.0%} lies within the raw data, over all annotated places."
    ]


def _augmentation_lines(finest: Size, coarse: Sequence[int]) -> list[str]:
    fine = [axis for axis in range(len(finest)) if axis not in coarse]
    spacing = tuple(32 * min(finest) if axis in fine else 8 * size for axis, size in enumerate(finest))
    jitter = tuple(2 * size if axis in fine else 0 for axis, size in enumerate(finest))
    deform = {"control_point_spacing": spacing, "jitter_sigma": jitter, "mirror_axes": list(range(len(finest)))}
    deform |= {"transpose_axes": fine} if len(fine) > 1 else {}
    lines = ["augmentation:"]
    reason = "Bends of two voxels over 32, mirrored images, and axes of equal voxels exchanged."
    lines += _comment([reason], "")
    lines.append(f"- {to_yaml({'kind': 'deform', **_plain(deform)})}")
    lines += ["- {kind: intensity, scale: [0.9, 1.1], shift: [-0.05, 0.05]}  # recordings differ in contrast"]
    return lines


def _size_lines(choice: NetworkChoice, memory: int | None) -> list[str]:
    limit = DEFAULT_MEMORY if memory is None else memory
    told = (
        f"A step of {choice.batch} sample{'s' if choice.batch > 1 else ''} and {choice.width} channels at the finest "
        f"level takes {choice.memory / 2**30:.2f} GiB, predicted for weights, gradients, optimizer and tensors; "
        f"{limit / 2**30:.3g} GiB are allowed."
    )
    if choice.batch == 4 and choice.crop is None and choice.width == 12:
        more = "there is not room for more" if memory else "`plan --memory` takes more where it allows"
        return _comment([told, f"Batch, crop and channels are the defaults; {more}."], "  ")
    if choice.batch > 4 or choice.width > 12:
        why = "As many samples and channels as fit, up to 8 and 24; the defaults are 4 and 12. Steps take longer."
    else:
        why = "The defaults, 4 samples and 12 channels, take more."
    lines = _comment([told, why], "  ")
    if choice.crop is not None:
        lines.append(f"  output_shape: {to_yaml(_plain(choice.crop))}")
    if choice.batch != 4:
        lines.append(f"  batch_size: {choice.batch}")
    return lines


def _iterations(voxels: float, choice: NetworkChoice) -> int:
    low, high = _ITERATIONS
    hundreds = round(_PASSES * voxels / (choice.batch * choice.voxels) / 100)
    return min(high, max(low, 100 * hundreds))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, str | int) else to_yaml_length(value)


def _comment(sentences: Iterable[str], indent: str) -> list[str]:
    """Return comment lines; a sentence that begins with a space is a row of a table, which is left as it is."""
    lines: list[str] = []
    for sentence in sentences:
        head = f"{indent}# "
        as_it_is = sentence.startswith(" ")
        lines += [head + sentence] if as_it_is else wrap(sentence, _WIDTH, initial_indent=head, subsequent_indent=head)
    return lines


def fresh_text() -> str:
    """Return a run file to fill in by hand: the usual fields, each with a comment."""
    return _FRESH


_FRESH = """\
# A run, from training to evaluation. `scalenet-gp config show` prints all fields with their defaults.
# `scalenet-gp plan` writes such a file from a look at the data. Lengths are nm along z, y, x; positions count from the
# raw volume's corner.
version: 1
data:
  # Any number of volumes, each with its annotation. Paths start at the folder of this file.
  sources:
  - {raw: volume.zarr/raw, labels: volume.zarr/labels}  # labels: a label volume for each class below
  # Ids in one volume: {raw: …, labels: …, encoding: ids, unlabelled: 0}, and classes: {mito: [3, 4], nucleus: 5}.
  classes: [mito, nucleus]
  intensities: auto  # or the darkest and the brightest stored value of the tissue, as [52, 200]
network:
  kind: scalenet
  # From coarse to fine. The finest: 4 voxels across the thinnest class, 2 across a membrane. The coarsest: the network
  # sees about 22 voxels of it, which should cover the largest class. One downsampling each: context comes from coarser
  # scales, and with two, a sample takes about eight times the work.
  subnets:
  - {top_resolution: [128, 128, 128], downsample_factors: [[2, 2, 2]]}
  - {top_resolution: [32, 32, 32], downsample_factors: [[2, 2, 2]]}
  - {top_resolution: [8, 8, 8], downsample_factors: [[2, 2, 2]]}
  # Sections of 40 nm: {top_resolution: [40, 8, 8], downsample_factors: [[1, 2, 2], [1, 2, 2]],
  # kernel_sizes: [[1, 3, 3], [1, 3, 3]]}.
augmentation:
- {kind: deform, control_point_spacing: [256, 256, 256], jitter_sigma: [16, 16, 16], mirror_axes: [0, 1, 2],
   transpose_axes: [0, 1, 2]}  # leave out axes along which the tissue looks different
- {kind: intensity, scale: [0.9, 1.1], shift: [-0.05, 0.05]}
training:
  region: {begin: [null, null, null], end: [null, null, 8192]}  # null: as far as the annotation reaches
  iterations: 4000  # more help as long as validation gets better
  workers: 1  # prepares batches while the network learns
validation:
  region: {begin: [null, null, 8192], end: [null, null, 9216]}  # shares nothing with training.region
  every: 200
prediction:
  block_shape: [1024, 1024, 1024]  # whole voxels of every output
evaluation:
  region: {begin: [null, null, 9216], end: [null, null, null]}  # shares nothing with the other two
"""
