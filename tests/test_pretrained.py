"""The pretrained models of the benchmarks compute what their authors' files compute."""

import functools
import importlib
import importlib.util
import io
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igjax

ROOT = Path(__file__).parent.parent
COUNTS = {"silero": 8, "magika": 8, "efficientnet": 2, "smollm2": 12}
KINDS = {
    "Makefile": "makefile",
    "README.md": "markdown",
    "tests/conftest.py": "python",
    "notebooks/quickstart.ipynb": "ipynb",
}
# The right and the wrong next word, by transformers 5.24.0 in float64, which reads the
# same file: AutoModelForCausalLM.from_pretrained(folder, gguf_file=...).
LOGITS = (
    *((15.41403, 10.20092), (27.93143, 24.79718), (20.71706, 16.38988)),
    *((26.22303, 23.39952), (10.25072, 5.22516), (20.34248, 15.28813)),
    *((17.22631, 15.94527), (26.99156, 23.17974), (14.28079, 13.46065)),
    *((10.83455, 9.42015), (24.13123, 19.59927), (21.20908, 14.72876)),
)

pytestmark = pytest.mark.slow
every_model = pytest.mark.parametrize("name", COUNTS)


@functools.cache
def load(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        module = importlib.import_module(f"_pretrained.{name}")
    try:
        return module, module.problem(COUNTS[name])
    except ImportError as error:
        if "make pretrained" not in str(error):
            raise
        pytest.skip(str(error))


def session(path):
    runtime = pytest.importorskip("onnxruntime", reason="make pretrained installs it")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def scores(problem, x, params):
    axes = (0, *(0 for _ in problem.args), None)
    return jax.jit(jax.vmap(problem.f, axes))(x, *problem.args, params)


def test_silero_matches_onnxruntime_at_every_frame():
    module, problem = load("silero")
    path = module.folder("silero_vad") / "data/silero_vad_16k_sequence.onnx"
    reference, state = session(path), np.zeros((1, 1, 128), np.float32)
    logits = jax.jit(module.logits)
    for x in problem.x:
        padded = np.concatenate([np.zeros(64, np.float32), x])
        frames = np.stack([padded[i : i + 576] for i in range(0, len(x), 512)])
        want, *_ = reference.run(None, {"input": frames, "h": state, "c": state})
        got = jax.nn.sigmoid(logits(x, problem.params))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_silero_windows_end_in_speech_and_silence_is_none():
    _, problem = load("silero")
    assert problem.x.shape == (8, 40 * 512)
    assert 0.1 < np.abs(problem.x).max() <= 1
    assert (scores(problem, problem.x, problem.params) > 0).all()
    assert problem.f(problem.baseline, problem.params) < -3


def test_magika_matches_onnxruntime_on_the_files_of_this_repository():
    module, problem = load("magika")
    reference = session(module.folder("magika") / module.MODEL / "model.onnx")
    # Not on any file: where few bytes differ, the variances that the ONNX graph computes
    # as differences of float32 squares lose their digits.
    tokens = np.stack([module.tokens((ROOT / file).read_bytes()) for file in KINDS])
    (want,) = reference.run(None, {"bytes": tokens})
    logits = jax.vmap(module.logits, (0, None))(module.one_hot(tokens), problem.params)
    np.testing.assert_allclose(jax.nn.softmax(logits), want, rtol=0, atol=1e-5)
    assert [module.labels()[i] for i in logits.argmax(1)] == list(KINDS.values())


def test_magika_reads_both_ends_of_a_file_without_the_space_around_them():
    module, _ = load("magika")
    short = module.tokens(b"\n ab \n").tolist()
    assert short == [*b"ab", *[256] * 2044, *b"ab"]
    long = module.tokens(b" " + b"a" * 3000 + b"b" * 3000 + b"\n").tolist()
    assert long == [*b"a" * 1024, *b"b" * 1024]


def test_efficientnet_sees_a_cat_and_an_espresso():
    module, problem = load("efficientnet")
    logits = jax.vmap(module.logits, (0, None))(problem.x, problem.params)
    cat, espresso = jax.nn.softmax(logits)
    # Classes 281 to 285 of ImageNet are cats that live with people.
    assert cat[281:286].sum() > 0.8
    assert module.labels()[int(espresso.argmax())] == "espresso"
    assert espresso.max() > 0.9


def test_efficientnet_reader_refuses_what_is_no_tensor():
    module, _ = load("efficientnet")
    file = io.BytesIO(pickle.dumps(print))
    with pytest.raises(KeyError, match=r"builtins\.print"):
        module._Unpickler(file).load()


def test_smollm2_matches_transformers():
    module, problem = load("smollm2")
    last, *words = problem.args
    logits = jax.jit(lambda x, last, params: module.logits(x, params)[last])
    each = zip(problem.x, last, strict=True)
    got = np.stack([logits(x, last, problem.params) for x, last in each])
    got = np.take_along_axis(got, np.stack(words, axis=1), axis=1)
    np.testing.assert_allclose(got, LOGITS, rtol=0, atol=1e-4)


def test_smollm2_reads_a_text_as_transformers_does():
    module, _ = load("smollm2")
    text = "In 1984, it's naïve;\n\n don't"
    digits, word = [216, 33, 41, 40, 36], [15486, 46494, 43]
    want = [788, *digits, 28, 357, 506, *word, 1116, 1326, 982]
    assert module.encode(text).tolist() == want
    assert module.decode(want) == text


def test_smollm2_says_paris_because_of_france():
    module, problem = load("smollm2")

    def g(tokens, *args):
        return module.preference(module.embed(tokens, args[-1]), *args)

    embed, f = igjax.from_embedding(g, "words")
    args = (*(arg[0] for arg in problem.args), problem.params)
    tokens = np.array([module.START, *module.encode("The capital of France is")])
    x = embed(tokens, *args)
    np.testing.assert_array_equal(x, problem.x[0][: len(tokens)])
    attribute = igjax.integrated_gradients(f, rule=igjax.rules.adaptive(0.05))
    result = attribute(x, problem.baseline[: len(tokens)], tokens, *args)
    assert result.converged
    words = result.values.sum(axis=1)
    assert words[0] == 0  # the start stays
    assert tokens[words.argmax()] == module.encode(" France").item()
    assert abs(words.sum() - (result.score - result.baseline_score)) < 0.05
    assert words.max() > 0.6 * words.sum()


@every_model
def test_torch_twin_gives_the_same_scores_and_gradients(name):
    torch = pytest.importorskip("torch", reason="benchmarks/README.md installs torch")
    _, problem = load(name)
    x = torch.tensor(problem.x, requires_grad=True)
    twin = problem.torch_scores()(x, *map(torch.tensor, problem.args))
    want = scores(problem, problem.x, problem.params)
    np.testing.assert_allclose(twin.detach().numpy(), want, rtol=1e-4)
    (gradient,) = torch.autograd.grad(twin.sum(), x)
    want = jax.grad(lambda x: scores(problem, x, problem.params).sum())(problem.x)
    scale = float(np.abs(want).max())
    np.testing.assert_allclose(gradient.numpy(), want, rtol=0, atol=1e-4 * scale)


@every_model
def test_gradients_at_the_inputs_are_finite_and_not_zero(name):
    _, problem = load(name)
    gradient = jax.grad(lambda x: scores(problem, x, problem.params).sum())(problem.x)
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient.reshape(len(gradient), -1)).max(axis=1) > 0).all()


@every_model
def test_float32_agrees_with_float64(name):
    _, problem = load(name)
    double = lambda a: jnp.asarray(a, jnp.float64)
    want = scores(problem, double(problem.x), jax.tree.map(double, problem.params))
    got = scores(problem, problem.x, problem.params)
    assert (got.dtype, want.dtype) == (jnp.float32, jnp.float64)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@every_model
def test_a_missing_package_names_the_command_that_installs_it(name, monkeypatch):
    module, _ = load(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"not installed.*: make pretrained"):
        module.load()
