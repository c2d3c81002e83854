"""What was saved comes back to the last bit, or not at all.

A file of results outlives the program: it holds no code, a crash never leaves half of
it, and whatever is no such file is told apart by name.
"""

import dataclasses
import json
import platform
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax

RULE = igjax.rules.gauss_legendre(4)
ARRAY = np.array([1 / 3, -0.0, np.inf, np.nan, 5e-324])


def single():
    attribute = igjax.integrated_gradients(jnp.prod, rule=RULE)
    return attribute(np.array([1.0, 2.5, 1 / 3]), 0.0)


def batch():
    attribute = igjax.integrated_gradients(jnp.prod, rule=RULE)
    return jax.vmap(attribute, (0, None))(np.arange(6.0).reshape(2, 3) / 7, 0.0)


def jacobian():
    attribute = igjax.integrated_jacobian(lambda x: x**3 / 7, rule=RULE)
    return attribute(np.array([1.0, 2.5], "float32"), 0.0)


def mean():
    attribute = igjax.expected(igjax.integrated_gradients(jnp.prod, rule=RULE), draws=4)
    rows = np.random.default_rng(0).normal(size=(8, 3))
    return attribute(jax.random.key(0), np.array([1.0, 2.5, 1 / 3]), rows)


def with_values(values):
    error = jax.tree.map(np.abs, values)
    return dataclasses.replace(single(), values=values, error=error)


RESULTS = {
    "single": single,
    "batch": batch,
    "jacobian": jacobian,
    "mean over draws": mean,
    "special numbers": lambda: with_values(ARRAY),
    "dict": lambda: with_values({"b": ARRAY, "a": ARRAY[:2].astype("float32")}),
    "integer keys": lambda: with_values({2: ARRAY, 10: ARRAY[:1]}),
    "tuple": lambda: with_values((ARRAY, ARRAY[:0])),
    "list": lambda: with_values([ARRAY, ARRAY[None]]),
    "none": lambda: with_values({"a": None, "b": ARRAY}),
    "empty": lambda: with_values({"a": (), "b": [], "c": {}, "d": ARRAY}),
    "nested": lambda: with_values([{"a": (ARRAY, None)}, [ARRAY[2:]]]),
}


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        b = np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_a_result_comes_back_to_the_last_bit(make, tmp_path):
    result = make()
    igjax.save(tmp_path / "result.npz", result)
    assert_same_bits(igjax.load(tmp_path / "result.npz").result, result)


def test_dicts_with_tuples_as_keys_come_back_or_are_refused(tmp_path):
    file = tmp_path / "result.npz"
    result = with_values({("layer", 1): ARRAY})
    try:
        igjax.save(file, result)
    except TypeError:
        assert not file.exists()
    else:
        assert_same_bits(igjax.load(file).result, result)


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_files_are_named_by_strings_and_paths(kind, tmp_path):
    file = kind(tmp_path / "no extension")
    igjax.save(file, single())
    assert_same_bits(igjax.load(file).result, single())
    assert [path.name for path in tmp_path.iterdir()] == ["no extension"]


def test_a_file_holds_no_pickle(tmp_path):
    igjax.save(tmp_path / "result.npz", with_values({"a": ARRAY, "b": None}), note=[1])
    with np.load(tmp_path / "result.npz", allow_pickle=False) as data:
        kinds = {name: data[name].dtype.kind for name in data.files}
    assert kinds.pop("header") == "U"
    assert set(kinds.values()) <= {"f", "i"}


def test_what_made_a_result_is_recorded(tmp_path):
    file = tmp_path / "result.npz"
    notes = {"model": "product", "seed": 3, "labels": [1, None, {"a": 0.5}]}
    igjax.save(file, jacobian(), rule=RULE, **notes)
    about = igjax.load(file).about
    assert {name: about[name] for name in notes} == notes
    assert about["rule"] == "gauss_legendre(4)"
    assert about["python"] == platform.python_version()
    assert about["igjax"] == version("igjax")
    assert about["jax"] == jax.__version__
    assert about["dtype"] == ["float32"]
    assert about["device"] == jax.devices()[0].device_kind
    igjax.save(file, single())
    about = igjax.load(file).about
    made_by = ("rule", "method", "path", "baseline")
    assert [about[name] for name in made_by] == [None] * 4


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("DeepLIFT", "DeepLIFT"),
        (0.5, 0.5),
        (igjax.integrated_gradients, "integrated_gradients"),
        (partial(igjax.baselines.blurred, sigma=2.0, axes=(0,)), "blurred"),
        (igjax.paths.straight, "straight"),
        (igjax.paths.polyline(ARRAY), "polyline"),
    ],
)
def test_functions_are_recorded_by_their_names(given, recorded, tmp_path):
    file = tmp_path / "result.npz"
    for name in ("method", "path", "baseline"):
        igjax.save(file, single(), **{name: given})
        assert igjax.load(file).about[name] == recorded


def test_an_existing_file_is_replaced(tmp_path):
    file = tmp_path / "result.npz"
    igjax.save(file, batch())
    igjax.save(file, single())
    assert_same_bits(igjax.load(file).result, single())
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("crash", [OSError, KeyboardInterrupt])
def test_a_crash_while_writing_leaves_the_old_file_and_nothing_else(
    crash, tmp_path, monkeypatch
):
    file = tmp_path / "result.npz"
    igjax.save(file, single())
    before = file.read_bytes()

    def write_array(stream, array, **options):
        stream.write(b"half of it")
        raise crash("disk full")

    monkeypatch.setattr(np.lib.format, "write_array", write_array)
    with pytest.raises(crash, match="disk full"):
        igjax.save(file, batch())
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


class Pair(NamedTuple):
    a: np.ndarray
    b: np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Point:
    a: np.ndarray


@pytest.mark.parametrize("values", [Pair(ARRAY, ARRAY), [Point(ARRAY)]], ids=["", "inner"])
def test_other_containers_are_refused_by_name(values, tmp_path):
    kind = "Pair" if isinstance(values, Pair) else "Point"
    with pytest.raises(TypeError, match=f"made of dicts, lists, tuples .* got {kind}"):
        igjax.save(tmp_path / "result.npz", with_values(values))
    assert list(tmp_path.iterdir()) == []


def test_a_note_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        igjax.save(tmp_path / "result.npz", single(), model=object())
    with pytest.raises(TypeError, match="JSON"):
        igjax.save(tmp_path / "result.npz", single(), baseline=ARRAY)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        igjax.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_file_cut_short_is_told(keep, tmp_path):
    file = tmp_path / "result.npz"
    igjax.save(file, single())
    content = file.read_bytes()
    size = int(keep * len(content)) if isinstance(keep, float) else keep
    file.write_bytes(content[:size])
    with pytest.raises(ValueError, match=r"load: .*result\.npz is not a result"):
        igjax.load(file)


def test_a_flipped_byte_in_an_array_is_told(tmp_path):
    file = tmp_path / "result.npz"
    igjax.save(file, with_values(np.full(1000, 1 / 3)))
    content = bytearray(file.read_bytes())
    at = content.find(np.full(3, 1 / 3).tobytes())
    assert at > 0
    content[at] ^= 255
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        igjax.load(file)


FOREIGN = {
    "no header": {"weights": ARRAY},
    "header of numbers": {"header": ARRAY},
    "header of another program": {"header": np.array('{"version": 3}')},
    "header that is a list": {"header": np.array("[1, 2]")},
}


@pytest.mark.parametrize("arrays", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_npz_is_told(arrays, tmp_path):
    np.savez(tmp_path / "foreign.npz", **arrays)
    with pytest.raises(ValueError, match="is not a result that igjax"):
        igjax.load(tmp_path / "foreign.npz")


def test_a_foreign_array_file_is_told(tmp_path):
    np.save(tmp_path / "foreign.npy", ARRAY)
    with pytest.raises(ValueError, match="is not a result"):
        igjax.load(tmp_path / "foreign.npy")


def test_a_pickle_is_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", header=np.array([object()], object))
    with pytest.raises(ValueError, match="is not a result"):
        igjax.load(tmp_path / "evil.npz")


def test_a_file_of_an_igjax_that_knew_no_sampling_is_read(tmp_path):
    igjax.save(tmp_path / "result.npz", single())
    with np.load(tmp_path / "result.npz") as data:
        arrays = dict(data)
    header = json.loads(str(arrays.pop("header")))
    del header["fields"]["sampling"]
    np.savez(
        tmp_path / "old.npz", header=np.array(json.dumps(header | {"format": 1})), **arrays
    )
    old = igjax.load(tmp_path / "old.npz").result
    assert_same_bits(old, single())
    assert old.sampling is None


def test_a_file_of_a_later_version_says_so(tmp_path):
    header = json.dumps({"format": 99, "anything": "else"})
    np.savez(tmp_path / "later.npz", header=np.array(header))
    with pytest.raises(ValueError, match=r"has format 99.*Upgrade igjax"):
        igjax.load(tmp_path / "later.npz")
