"""The pictures of the references that a run writes for its page and its grid, and where they lie in save_dir."""

from dataclasses import dataclass

from utils.run.references import Reference
from utils.run.settings import Settings

FOLDER = "index_files"  # beside index.html


@dataclass(frozen=True)
class Picture:
    """A reference as the model sees it; or, given a factor, what of it binds."""

    reference: Reference
    downsample_factor: float | None = None

    @property
    def folder(self) -> str:
        """Where it lies in save_dir."""
        return FOLDER if self.downsample_factor is None else binds_folder(self.downsample_factor)

    @property
    def file_name(self) -> str:
        """Under which it is written in save_dir."""
        return f"{self.folder}/{self.reference.name}.png"


def binds_folder(downsample_factor: float) -> str:
    """Where the pictures lie of what binds at a factor."""
    return f"{FOLDER}/N{downsample_factor!r}".removesuffix(".0")


def picture_folders(settings: Settings) -> list[str]:
    """All folders of a run's pictures, the references' own first."""
    return [FOLDER, *map(binds_folder, settings.downsample_factor)]


def output_folders(settings: Settings) -> list[str]:
    """All folders that a run writes to, as they lie in save_dir."""
    return list(dict.fromkeys(["", *(binding.folder for binding in settings.bindings), *picture_folders(settings)]))


def pictures_of(settings: Settings) -> list[Picture]:
    """Of every reference that has samples: itself, and what of it binds at each factor."""
    firsts = settings.samples.variations(settings.bindings[0], 1)
    return [Picture(first.reference, factor) for first in firsts for factor in (None, *settings.downsample_factor)]
