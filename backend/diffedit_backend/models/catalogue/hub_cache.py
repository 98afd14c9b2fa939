"""The cache of the Hugging Face hub on this machine."""

from __future__ import annotations

from pathlib import Path


def cached_snapshots(mark: str) -> dict[str, Path]:
    """Id and newest snapshot of every model in the cache that has the file `mark`, by id."""
    try:
        from huggingface_hub import constants, scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:  # a client without the extra "backend" has no hub either
        return {}
    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return {}
    found = {}
    for repository in cache.repos:
        if repository.repo_type != "model":
            continue
        whole = [revision for revision in repository.revisions if (revision.snapshot_path / mark).is_file()]
        if whole:
            newest = max(whole, key=lambda revision: revision.last_modified)
            found[repository.repo_id] = newest.snapshot_path
    return dict(sorted(found.items()))


def kept_snapshot(name: str, mark: str) -> Path | None:
    """The folder of a hub id (owner/model or owner/model@revision) in the cache that has the file `mark`, else None."""
    try:
        from huggingface_hub import constants, try_to_load_from_cache
    except ImportError:
        return None
    repository, _, revision = name.partition("@")
    found = try_to_load_from_cache(repository, mark, cache_dir=constants.HF_HUB_CACHE, revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None


def hub_is_off() -> bool:
    """Whether nothing is fetched: HF_HUB_OFFLINE says so, or the hub's library is not here."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return True
    return bool(constants.HF_HUB_OFFLINE)
