"""A GGUF file as a folder that transformers reads in seconds; unpacking its weights takes up to a minute.

Weights are kept as float32. A quantised weight is a 16-bit scale times an integer, which neither float16 nor
bfloat16 holds, so that float32 alone can be loaded as either type and be what the file says. It is also what loads
fastest as float32 (630 million parameters: 2.3 s, from bfloat16 5.7 s), at twice the disk and, loaded as bfloat16,
twice the time (5.1 s for 2.4 s).
"""

from __future__ import annotations

from pathlib import Path

from routegraph.validate.models.gguf import read_gguf
from routegraph.validate.models.quiet import quiet


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
