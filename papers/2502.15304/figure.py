"""Keys in the basis of their singular vectors: how fast latent channels fall, and errors of keys against bytes.

SVDq (arXiv 2502.15304): see README.md beside this file. ``python papers/2502.15304/figure.py [MODEL] [FIGURE.svg]``.
"""

import sys

import numpy as np
import torch

from routegraph import plot
from routegraph.stats.bootstrap import interval, resample_weights
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.presses.prefill import prefill
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rotation import rotations_of
from routegraph.validate.quantise.rows import rounded_keys
from routegraph.validate.quantise.size import key_bytes
from routegraph.validate.tasks import load_task

PROMPTS = 4
ROW, CHANNEL, LATENT = "one scale a row", "one scale a channel", "singular vectors"
#: Bits of each way to round; a channel's scale and a latent channel's are of all rows.
WAYS = {
    ROW: ["2", "3", "4", "8"],
    CHANNEL: [f"kivi{bits}:group=0,residual=0" for bits in (2, 3, 4, 8)],
    LATENT: [
        f"svdq:schedule={one}"
        for one in (
            "4-4-2-0-0-0-0-0",
            "8-4-4-0-0-0-0-0",
            "8-4-4-2-0-0-0-0",
            "8-4-4-4-2-2-2-2",
            "8-8-4-4-4-4-4-4",
            "8",
        )
    ],
}
#: Many more rows, with the same errors a row: there the basis weighs little.
LONG = 32_768


def spectrum(keys):
    """Shares of the variance that latent channels have, of centred keys [heads, n, d]; mean over the heads."""
    found = torch.linalg.svdvals(keys - keys.mean(dim=1, keepdim=True)).square()
    return (found / found.sum(dim=1, keepdim=True)).mean(dim=0).numpy()


def of_prompt(network, prompt):
    """Spectra without and with positions [2, d], and of each precision error, bytes and bytes of many rows."""
    cache = prefill(network.model, torch.from_numpy(tokenise(network, prompt).context)[None])
    n, width = cache.layers[0].keys.shape[2:]
    texts = [text for way in WAYS.values() for text in way]
    spectra, errors = [], {text: [] for text in texts}
    for layer, turn in zip(cache.layers, rotations_of(network.model, n), strict=True):
        keys = layer.keys[0].double()
        plain = keys if turn is None else turn.back(keys)
        spectra.append((spectrum(plain), spectrum(keys)))
        spread = (keys - keys.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2))
        for text in texts:
            off = rounded_keys(keys.float(), Precision.named(text), turn).double() - keys
            errors[text].append((off.square().mean(dim=(1, 2)) / spread).numpy())
    told = {}
    for text in texts:
        sizes = [key_bytes(rows, width, Precision.named(text)) / (2 * rows * width) for rows in (n, LONG)]
        told[text] = (float(np.sqrt(np.median(errors[text]))), *sizes)
    return np.mean(spectra, axis=0), told, n


def main():
    arguments = sys.argv[1:]
    out = arguments.pop() if arguments and arguments[-1].endswith((".svg", ".pdf", ".png")) else None
    name = arguments[0] if arguments else "smollm2"
    use_threads(1)
    network = load(name)
    task = "words_forward" if name.endswith("-tiny") else "bundled"
    found = [of_prompt(network, prompt) for prompt in load_task(task, PROMPTS, 0, None)]
    spectra = np.mean([one for one, _, _ in found], axis=0)
    energy = np.cumsum(spectra, axis=1)
    width = len(spectra[0])
    weights = resample_weights(len(found), 1000, np.random.default_rng(0))
    lengths = [n for *_, n in found]
    print(f"{name}, {PROMPTS} prompts of {min(lengths)} to {max(lengths)} rows, heads of {width}")
    for which, own in zip(("without", "with"), energy, strict=True):
        most = int(np.searchsorted(own, 0.99)) + 1
        print(
            f"{which} positions: the first {width // 8} of {width} latent channels have {own[width // 8 - 1]:.3f} of "
            f"the variance, .99 need {most}"
        )
    rows = []
    for way, texts in WAYS.items():
        for text in texts:
            each = np.array([told[text][0] for _, told, _ in found])
            error = interval(weights @ each, float(each.mean()))
            here, long = (float(np.mean([told[text][k] for _, told, _ in found])) for k in (1, 2))
            rows.append((way, text, error, here, long))
            print(
                f"{text:32} error {error.value:.4f} [{error.low:.4f}, {error.high:.4f}], {100 * here:5.1f} % of the "
                f"keys' bytes, {100 * long:4.1f} % of {LONG} rows"
            )
    figure, axes = plot.figure(1, 2, width=5.2)
    for place, label in ((0, "without positions"), (1, "with rotary positions")):
        axes[0].semilogy(np.arange(1, width + 1), spectra[place], label=label)
    axes[0].set(xlabel="latent channel", ylabel="share of the variance", title=name)
    axes[0].legend()
    for way, marker in zip(WAYS, "os^", strict=True):
        own = sorted((here, error) for which, _, error, here, _ in rows if which == way)
        x, y = [one for one, _ in own], np.array([error.value for _, error in own])
        low, high = (np.array([getattr(error, end) for _, error in own]) for end in ("low", "high"))
        axes[1].errorbar(x, y, [y - low, high - y], marker=marker, capsize=2, label=way)
    axes[1].set(
        xlabel="bytes of the keys, of 1 at 16 bits, basis counted",
        ylabel="error of the keys (of their spread)",
        yscale="log",
    )
    axes[1].legend()
    if out:
        plot.save(figure, out)


if __name__ == "__main__":
    main()
