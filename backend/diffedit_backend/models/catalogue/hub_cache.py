"""The models in the cache of the Hugging Face hub on this machine."""

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
