"""Checkpoints of the Hugging Face hub, by their id.

huggingface_hub does the work, with its cache, offline mode (HF_HUB_OFFLINE=1) and tokens; it is imported only when
it is needed, because its import is slow.
"""

import re
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path

from models.files.diffusers_folder import AUTOENCODER_FOLDER, CONFIG_FILES, INDEX, OTHER_PARTS, WEIGHTS
from utils.errors import InputError

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")
FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".json", ".yaml")


def is_hub_id(text: str) -> bool:
    """Return whether `text` can be a hub id, `owner/name` or `owner/name@revision`, and is not the name of a file."""
    return HUB_ID.fullmatch(text) is not None and not text.endswith(FILE_SUFFIXES)


def fetch(hub_id: str) -> Path:
    """Download a repository's network and scheduler, where needed, and return their folder in the hub's cache.

    Raises:
        InputError: no such repository or revision, no access to it, no checkpoint of diffusers in it, or no
            connection and no cached copy.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, _, named = hub_id.partition("@")
    revision = named or None
    wanted, reachable = list(CONFIG_FILES), True
    try:
        info = HfApi().model_info(repo, revision=revision, timeout=10)
        wanted = needed_files([file.rfilename for file in info.siblings or ()])
    except HfHubHTTPError:
        pass  # snapshot_download meets it too, and knows whether a cached copy will do
    except Exception:  # no network; what that raises differs between versions of the hub's client
        reachable = False
    if not wanted:
        raise InputError(f"weights {hub_id}: the repository holds no network saved by diffusers")
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted, local_files_only=not reachable))
    except GatedRepoError:
        problem = "the repository is gated: accept its terms on its page and log in (hf auth login)"
    except RepositoryNotFoundError:
        problem = "no such file or folder here, and no such repository on the hub, or a private one (hf auth login)"
    except RevisionNotFoundError:
        problem = f"the repository has no revision {revision}"
    except LocalEntryNotFoundError:
        problem = "no such file or folder here, none in the hub's cache, and the hub cannot be reached"
    except Exception as error:
        problem = f"cannot be fetched from the hub: {' '.join(str(error).split()) or type(error).__name__}"
    raise InputError(f"weights {hub_id}: {problem}")


def needed_files(files: Collection[str]) -> list[str]:
    """Select those of a diffusers repository's files (`folder/name`) that a run reads.

    They are the config files and the weights with all their shards; of a pipeline that is not supported, the config
    files alone.
    """
    if any(name.partition("/")[0] in OTHER_PARTS.keys() - {AUTOENCODER_FOLDER} for name in files):
        return [name for name in files if name in CONFIG_FILES]
    folders = ("unet/" if "unet/config.json" in files else "", f"{AUTOENCODER_FOLDER}/")
    weights = [next((folder + name for name in WEIGHTS if folder + name in files), "") for folder in folders]
    shards = []
    for index in weights:
        if ".index." in index:
            stem, _, kind = INDEX.sub("", index).rpartition(".")
            shards.append(f"{stem}*-*-of-*.{kind}")
    wanted = {*CONFIG_FILES, *weights}
    return [name for name in files if name in wanted or any(fnmatch(name, pattern) for pattern in shards)]
