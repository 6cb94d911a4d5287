"""Checkpoints of the Hugging Face hub, by their id.

huggingface_hub does the work, with its cache, offline mode (HF_HUB_OFFLINE=1) and tokens; it is imported only when
it is needed, being slow to import.
"""

import re
from pathlib import Path

from utils.diffusers_folder import CONFIG_FILES, needed_files
from utils.errors import InputError

HUB_ID = re.compile(r"(?P<owner>[\w-][\w.-]*)/(?P<name>[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".json", ".yaml")


def is_hub_id(text: str) -> bool:
    """Whether `text` can be a hub id `owner/name` or `owner/name@revision`.

    It is not one where it is named like a file or `owner` is a folder here: then a file was meant and is missing.
    """
    match = HUB_ID.fullmatch(text)
    return match is not None and not text.endswith(FILE_SUFFIXES) and not Path(match["owner"]).is_dir()


def fetch(hub_id: str) -> Path:
    """The folder in the hub's cache that holds a repository's network and scheduler, downloaded where needed.

    Raises:
        InputError: no such repository or revision, no access to it, or neither a network nor a cached copy.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match = HUB_ID.fullmatch(hub_id)
    if match is None:
        raise InputError(f"weights {hub_id}: is not a hub id owner/name or owner/name@revision")
    repo, revision = f"{match['owner']}/{match['name']}", match["revision"]
    try:
        wanted = needed_files(HfApi().list_repo_files(repo, revision=revision))
    except Exception:  # whatever is the matter, snapshot_download tries again, looks in the cache, and says it
        wanted = list(CONFIG_FILES)
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except GatedRepoError:
        problem = "is open only to those who accepted its terms, on its page, and are logged in (hf auth login)"
    except RepositoryNotFoundError:
        problem = "no such file or folder here, and no such repository on the hub, or a private one (hf auth login)"
    except RevisionNotFoundError:
        problem = f"the repository has no revision {revision}"
    except LocalEntryNotFoundError:
        problem = "no such file or folder here, none in the hub's cache, and the hub cannot be reached"
    except Exception as error:  # each version of the hub's client has errors of its own
        problem = f"cannot be fetched from the hub: {' '.join(str(error).split()) or type(error).__name__}"
    raise InputError(f"weights {hub_id}: {problem}")
