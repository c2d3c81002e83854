"""Silero VAD 6.2.3 (MIT): is the last 32 ms of a recording speech?

Each frame of 512 samples at 16 kHz, behind the 64 samples before it, becomes the
magnitudes of a Fourier transform; four convolutions read those, an LSTM the frames.
The recordings are those of Debian's pocketsphinx-testdata (BSD), fetched once into a
cache.  The gradient at exactly zero, where the magnitudes have a kink, is NaN.
"""

import functools
import subprocess
import tempfile
import wave
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from . import CACHE, Problem, folder, initializers, missing

FRAME, CONTEXT = 512, 64
STRIDES = (1, 2, 2, 1)


def load():
    """The weights, from the ONNX file (the .safetensors beside it is another version)."""
    weights = initializers(folder("silero_vad") / "data/silero_vad_16k_sequence.onnx")
    return {
        "stft": weights["stft.forward_basis_buffer"],
        "encoder": [
            (weights[f"encoder.{i}.weight"], weights[f"encoder.{i}.bias"]) for i in range(4)
        ],
        # Four gates of 128 rows each, in ONNX's order: input, output, forget, cell.
        "input": weights["onnx::LSTM_209"][0],
        "hidden": weights["onnx::LSTM_210"][0],
        "bias": weights["onnx::LSTM_211"].reshape(2, 512).sum(0),
        "output": (weights["output.weight"][0, :, 0], weights["output.bias"].reshape(())),
    }


def _conv(x, kernel, stride, padding):
    shapes = ("NCH", "OIH", "NCH")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,), [(padding, padding)], dimension_numbers=shapes
    )


def logits(x, params):
    """The speech logit of every frame of the waveform `x`, whose start is silence."""
    frames = x.reshape(-1, FRAME)
    context = jnp.pad(frames[:-1, -CONTEXT:], ((1, 0), (0, 0)))
    frames = jnp.concatenate([context, frames], axis=1)
    frames = jnp.pad(frames, ((0, 0), (0, CONTEXT)), mode="reflect")
    parts = _conv(frames[:, None], params["stft"], FRAME // 4, 0)
    real, imaginary = jnp.split(parts, 2, axis=1)
    y = jnp.sqrt(real**2 + imaginary**2)
    for (kernel, bias), stride in zip(params["encoder"], STRIDES, strict=True):
        y = jax.nn.relu(_conv(y, kernel, stride, 1) + bias[None, :, None])
    gates = y[..., 0] @ params["input"].T + params["bias"][None]

    def step(carry, gates):
        hidden, cell = carry
        i, o, f, g = jnp.split(gates + params["hidden"] @ hidden, 4)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zero = jnp.zeros_like(gates[0, :128])
    _, states = jax.lax.scan(step, (zero, zero), gates)
    kernel, bias = params["output"]
    return jax.nn.relu(states) @ kernel + bias


def logit(x, params):
    """The speech logit of the last frame."""
    return logits(x, params)[-1]


def _torch_scores(params, device="cpu"):
    import torch
    from torch.nn import functional as F

    def gates(rows):
        i, o, f, g = np.split(rows, 4)
        return np.concatenate([i, f, g, o])

    # It stays in training mode: cuDNN has no other backward pass of an LSTM.
    lstm = torch.nn.LSTM(128, 128, batch_first=True)
    kernels = [gates(params[name]) for name in ("input", "hidden", "bias")]
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    state = zip(names, (*kernels, np.zeros_like(kernels[-1])), strict=True)
    lstm.load_state_dict({name: torch.tensor(value) for name, value in state})
    lstm.requires_grad_(False).to(device)
    tensors = jax.tree.map(lambda w: torch.tensor(w, device=device), params)

    def scores(x):
        frames = x.reshape(len(x), -1, FRAME)
        context = F.pad(frames[:, :-1, -CONTEXT:], (0, 0, 1, 0))
        frames = torch.cat([context, frames], 2).flatten(0, 1)[:, None]
        frames = F.pad(frames, (0, CONTEXT), mode="reflect")
        real, imaginary = F.conv1d(frames, tensors["stft"], stride=FRAME // 4).chunk(2, 1)
        y = torch.sqrt(real**2 + imaginary**2)
        for (kernel, bias), stride in zip(tensors["encoder"], STRIDES, strict=True):
            y = torch.relu(F.conv1d(y, kernel, bias, stride, padding=1))
        states, _ = lstm(y.reshape(len(x), -1, 128))
        kernel, bias = tensors["output"]
        return torch.relu(states[:, -1]) @ kernel + bias

    return scores


def _recordings():
    """The folder of the recordings; the first call downloads 2 MB."""
    data = CACHE / "pocketsphinx-testdata"
    if not data.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        download = "apt-get download pocketsphinx-testdata"
        # A new machine has no package lists yet.
        command = (
            f"({download} || (apt-get -qq update && {download})) && dpkg -x *.deb data"
        )
        try:
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                subprocess.run(
                    command, shell=True, check=True, cwd=scratch, stdout=subprocess.DEVNULL
                )
                Path(scratch, "data").rename(data)
        except subprocess.CalledProcessError as error:
            raise ImportError(
                f"{missing('pocketsphinx-testdata')}, or unpack that Debian package "
                f"into {data}"
            ) from error
    return data / "usr/share/pocketsphinx/test/data"


def _samples(path):
    if path.suffix == ".raw":
        return np.fromfile(path, "<i2")
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def speech():
    """All recordings one after another, 44 s at 16 kHz, between -1 and 1."""
    data = _recordings()
    paths = [*sorted(data.glob("*.raw")), *sorted(data.glob("*/*.wav"))]
    return np.concatenate([_samples(path) for path in paths]).astype(np.float32) / 32768


def problem(count: int = 64, frames: int = 40) -> Problem:
    """Windows of `frames` frames, in order of time; the last frame is speech if possible.

    Args:
        count: How many; of twice as many, evenly spaced, those that end in speech.
        frames: Of 512 samples each; up to about 1300, which are 42 s.

    Returns:
        The problem, with silence as its baseline and no further arguments.
    """
    params, samples = load(), speech()
    last = len(samples) // FRAME - frames
    starts = np.linspace(0, last, 2 * count).astype(int) * FRAME
    x = np.stack([samples[start : start + frames * FRAME] for start in starts])
    silent = jax.jit(jax.vmap(logit, (0, None)))(x, params) <= 0
    x = x[np.sort(np.argsort(silent, stable=True)[:count])]
    torch_scores = functools.partial(_torch_scores, params)
    return Problem("silero", logit, params, x, np.zeros_like(x[0]), (), torch_scores)
