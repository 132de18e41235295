"""Bases from the Hugging Face hub, through its own client and its own cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clinical_asr.errors import MissingDependency, ModelError

ELSEWHERE = "download the .nemo on a machine with network and pass its path"


def download(base: str, *, endpoint: str | None = None, cache: Path | None = None, token: str | None = None) -> Path:
    """The one ``.nemo`` of the model ``org/name``, at a pinned commit, from the cache if it is there.

    ``endpoint`` is a hub other than the public one. Raises ModelError: no network, no such model, none or several
    ``.nemo`` files.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
    except ImportError:
        raise MissingDependency("huggingface_hub", "nemo") from None
    try:
        return _download(huggingface_hub, base, endpoint, cache, token)
    except RepositoryNotFoundError:
        raise ModelError("the hub has no such public model", base, "check the name, or log in if it is gated") from None
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise _unreachable(base, error) from None
    except Exception as error:  # the hub's HTTP client has its own family of connection errors
        if type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise _unreachable(base, error) from None
        raise


def _unreachable(base: str, error: Exception) -> ModelError:
    why = " ".join(str(error).split())[:120] or type(error).__name__
    return ModelError(f"cannot be fetched from the hub ({why})", where=base, mend=ELSEWHERE)


def _download(hub: Any, base: str, endpoint: str | None, cache: Path | None, token: str | None) -> Path:
    info = hub.HfApi(endpoint=endpoint, token=token).model_info(base, timeout=20)
    names = sorted(file.rfilename for file in info.siblings or () if file.rfilename.endswith(".nemo"))
    if len(names) != 1:
        found, mend = ", ".join(names) or "none", "download the right one and pass its path"
        raise ModelError(f"holds not one .nemo file but {found}", where=base, mend=mend)
    places = {"endpoint": endpoint, "cache_dir": cache, "token": token}
    return Path(hub.hf_hub_download(base, names[0], revision=info.sha, **places))
