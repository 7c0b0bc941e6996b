"""Models by name: fetched through ModelScope, or refused at once where there is no network."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from clsr.errors import InputError

HUB = "https://www.modelscope.cn"
TIMEOUT_S = 5.0  # the hub's own client retries for minutes


def fetch(name: str) -> Path:
    """Return the folder of a ModelScope model, downloaded first unless there is no network and it was before.

    Raises:
        InputError: it is neither on this machine nor available; raised within seconds.
    """
    from modelscope import snapshot_download

    offline = not _reachable()
    try:
        return Path(snapshot_download(name, local_files_only=offline))
    except Exception as error:  # network, hub and file errors of many kinds
        reason = f"no network: {HUB} does not answer" if offline else " ".join(str(error).split())[:200]
        raise InputError(
            f"model '{name}' could not be fetched from ModelScope ({reason}): where there is a network, run "
            f"'modelscope download --model {name} --local_dir DIR', bring DIR here, and name it in place of the model"
        ) from error


def _reachable() -> bool:
    try:
        urllib.request.urlopen(HUB, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:  # an answer all the same
        return True
    except OSError:
        return False
    return True
