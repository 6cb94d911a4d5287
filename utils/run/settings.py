"""The settings of a run: the command line and the config, resolved against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models import Config
from utils.arrays import ArrayForm
from utils.images import Shape
from utils.pictures import Reading
from utils.run.arguments import OMITTED_AT
from utils.run.references import Reference
from utils.run.samples import Binding

# what the record leaves out, so that images made before it existed stay valid
OMITTED = {"autoencoder": None, "masked": False, **OMITTED_AT}


@dataclass(frozen=True)
class Settings:
    """All settings of a run. The fields are the arguments of the same names, except for these.

    Attributes:
        class_id: the classes to draw, in turn; a range for all of them, none for none.
        masks: of each reference, by its name; empty where all of every reference binds.
        reading: how references are read.
        image_size: height and width of the images, enlarged by `upscale`.
        is_larger: whether there may be images larger than the model's own.
        size_multiple: heights and widths of images are multiples of it.
        diffusion: the config's, with the command line's values in place of its own, `respace_steps` among them.
        downsample_factor: each N, or "A:B", in pixels of the (enlarged) image.
        range_t: each range, in steps.
        bindings: every factor with every range.
        folders: those that the run writes to, relative to save_dir; those of previews are last.
        walk_steps: the network calls of a sample: S, or the share of it that `strength` leaves.
        detail_steps: how many of the last steps look at a larger image itself, in windows.
        command: reproduces the run.
        input_notes: what there is to say of the input folder.
        skipped: the references that cannot be read, and why.
        shapes: of the images that follow each reference, by its name.
        canvases: what is sampled for each of these images, which is the middle of it.
        forms: how each reference is stored, by its name, for arrays of its samples.
        identity: what an image depends on, see `identity_of`.
    """

    config: Config
    weights: Path
    raw_weights: bool
    class_id: Sequence[int]
    guidance_scale: float
    input_dir: Path
    save_dir: Path
    references: tuple[Reference, ...]
    image_size: Shape
    is_larger: bool
    keep_aspect: bool
    size_multiple: int
    tile_overlap: float
    detail: float
    n_samples: int
    save_as: str
    show_channels: list[int] | None
    seed: int
    diffusion: Mapping[str, Any]
    sampler: str
    sampler_options: Mapping[str, Any]
    downsample_factor: tuple[float | str, ...]
    interp_method: str
    low_pass: str
    refine: str
    refine_weight: float
    mask_dir: Path | None
    masks: Mapping[str, Path]
    transparent: str
    range_t: tuple[int, ...]
    bindings: tuple[Binding, ...]
    folders: tuple[str, ...]
    walk_steps: int
    detail_steps: int
    strength: float
    micro_batch: int
    mixed_precision: str
    compile: bool
    progress_grid: int | None
    overwrite: bool
    skip_bad_inputs: bool
    reading: Reading
    dry_run: bool
    open: bool
    command: str
    input_notes: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    canvases: Mapping[str, Shape] = field(default_factory=dict)
    forms: Mapping[str, ArrayForm] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reading_masks(self) -> Reading:
        """How masks are read: as grey pictures."""
        return replace(self.reading, channels=1, value_range=None, channels_first=None)

    @property
    def copies(self) -> int:
        """How often each image goes through the network in a step, all in one call: with and without its class."""
        return 1 if self.guidance_scale == 1 else 2
