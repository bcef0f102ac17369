"""A GGUF file as a folder that transformers reads in seconds; unpacking its weights takes up to a minute.

Weights are kept as float32. A quantised weight is a 16-bit scale times an integer, which neither float16 nor
bfloat16 holds, so that float32 alone can be loaded as either type and be what the file says. It is also what loads
fastest as float32 (630 million parameters: 2.3 s, from bfloat16 5.7 s), at twice the disk and, loaded as bfloat16,
twice the time (5.1 s for 2.4 s).
"""

from __future__ import annotations

from pathlib import Path

from routegraph.memory import available
from routegraph.validate.models.cache import DownloadError, cache_folder, check_disk, make_once
from routegraph.validate.models.gguf import header, read_gguf
from routegraph.validate.models.parts import Progress
from routegraph.validate.models.quiet import quiet
from routegraph.validate.models.size import ITEM, check_fits
from routegraph.validate.models.sums import check_sums, sha256_of

#: Part of a folder's name; raised when `convert` writes something else than before.
_REVISION = 1


def convert(gguf_file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as config.json, float32 safetensors and a tokenizer.

    Parameters
    ----------
    gguf_file : Path
    folder : Path
        Existing folder to write to.

    Raises
    ------
    ValueError
        If `read_gguf` refuses the file.
    """
    with quiet():
        # The tokenizer's files are our own: those that transformers 5 saves are not read by transformers 4.
        network, _ = read_gguf(gguf_file, tokenizer_folder=folder)
        network.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors makes its files private; a shared cache should be readable as a whole


def converted(
    gguf_file: Path, dtype: str, device: str, progress: Progress | None = None
) -> tuple[Path | None, str]:
    """Return the folder of the cache with a GGUF file's model, made on first use; else None, and why.

    The folder is named by the digest of the whole file: a file that was copied or moved is the same model, one
    that was changed in place is not, and 500 MB take a third of a second. A fast look at size, time and some
    blocks would take a model that was trained on, and written over the old one, for the old one.

    Parameters
    ----------
    gguf_file : Path
    dtype, device : str
        What it is to be loaded as, and where.
    progress : callable, optional
        Called as ``progress(done, total, label)``.

    Raises
    ------
    ValueError
        If `read_gguf` refuses the file, or the model does not fit in memory.
    """
    from safetensors import SafetensorError

    folder = cache_folder() / "gguf" / f"{sha256_of(gguf_file)[:32]}-{_REVISION}"
    if folder.is_dir():
        check_sums(folder, gguf_file.stem)
        return folder, ""
    parameters = header(gguf_file).parameters
    check_fits(gguf_file.stem, parameters, dtype, device)
    if 2 * ITEM["float32"] * parameters > (available() or 2**63):
        # It may fit as the smaller type that is asked for.
        return (
            None,
            f"too little memory is free to unpack model {gguf_file.stem!r} for good, so that it takes longer",
        )
    if progress:
        progress(0, 1, f"unpacking {gguf_file.name} to float32, once")
    try:
        check_disk(f"model {gguf_file.stem!r}, unpacked,", ITEM["float32"] * parameters)
        make_once(folder, lambda partial: convert(gguf_file, partial))
    except DownloadError as error:
        return None, f"{error}; until then it is unpacked whenever it is loaded"
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        return None, f"model {gguf_file.stem!r} is unpacked whenever it is loaded: {str(folder)!r}: {reason}"
    return folder, ""
