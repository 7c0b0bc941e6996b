"""A corpus as its publisher hands it out: what is missing and where it is, and whether files are the published ones."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from clsr.errors import InputError

log = logging.getLogger("clsr")


class Source(NamedTuple):
    """A file or folder of a corpus.

    Attributes:
        path: relative to the corpus.
        how: a command that fetches it, or words that say where it is.
        sha256: the digest that is publicly known, if one is.
        optional: an archive that is only checked when it is there.
    """

    path: str
    how: str
    sha256: str | None = None
    optional: bool = False


def check_sources(corpus: Path, sources: Sequence[Source]) -> None:
    """See that everything is there, then that files are those that were published.

    Digests of files that none is published of are logged, so that results can name what they were made from.

    Raises:
        InputError: something is missing, saying how to get it; or a file has another digest.
    """
    for source in sources:
        if not source.optional and not (corpus / source.path).exists():
            raise InputError(f"{corpus / source.path}: no such file or folder; {source.how}")
    for source in sources:
        path = corpus / source.path
        if not path.is_file():
            continue
        digest = _sha256(path)
        if source.sha256 is None:
            log.info("%s: sha256 %s (none is published)", path, digest)
        elif digest != source.sha256:
            raise InputError(f"{path}: sha256 is {digest}, not the published {source.sha256}; fetch it again")


def check_audio(files: Sequence[Path], how: str) -> None:
    """See that recordings are there.

    Raises:
        InputError: some are missing: the first one, how many, and how to get them.
    """
    missing = [file for file in files if not file.is_file()]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}: no such recording{others}, of {len(files)} needed; {how}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
