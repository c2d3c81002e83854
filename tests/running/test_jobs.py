"""A job that was killed goes on where it was: nothing lost, nothing twice, nothing wrong.

Killed jobs are real processes that get SIGKILL. The fork server they come from has
imported igjax and nothing more, so that dozens of them cost seconds.
"""

import contextlib
import dataclasses
import errno
import functools
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import igjax

RULE = igjax.rules.gauss_legendre(4)
ROWS = np.random.default_rng(0).normal(size=(7, 3))


def explainer(weights=(0.0, 1.0, 2.0), rule=RULE):
    weights = jnp.asarray(weights)
    attribute = igjax.integrated_gradients(lambda x: jnp.tanh(x @ weights), rule=rule)
    return jax.jit(jax.vmap(attribute, (0, None)))


@functools.cache
def explain():
    return explainer()


def batches(rows=ROWS, size=3):
    return [(rows[i : i + size], 0.0) for i in range(0, len(rows), size)]


def run(folder, attribute=None, data=None, **options):
    attribute = attribute or explain()
    data = batches() if data is None else data
    return igjax.attribute_batches(attribute, data, folder, progress=False, **options)


def counted(attribute, calls):
    """The attribution, which notes its calls: no jitted function, so called once each."""

    def count(*batch):
        calls.append(len(batch[0]))
        return attribute(*batch)

    return count


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def assert_same(results, want):
    for got, expected in zip(results, want, strict=True):
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


# --- the job itself


def test_results_are_those_of_the_function_in_order_with_a_short_last_batch(tmp_path):
    results = list(run(tmp_path / "new" / "folder"))
    assert [np.shape(result.score) for result in results] == [(3,), (3,), (1,)]
    assert_same(results, [explain()(*batch) for batch in batches()])


def test_a_file_is_a_saved_result_with_its_notes(tmp_path):
    results = list(run(tmp_path, rule=RULE, model="v1"))
    assert names(tmp_path) == [f"batch_{i:08d}.npz" for i in range(3)]
    saved = igjax.load(tmp_path / "batch_00000001.npz")
    assert_same([saved.result], results[1:2])
    assert (saved.about["model"], saved.about["rule"]) == ("v1", repr(RULE))


def test_each_result_is_read_when_it_is_asked_for(tmp_path):
    results = run(tmp_path)
    next(results)
    (tmp_path / "batch_00000001.npz").unlink()
    with pytest.raises(FileNotFoundError):
        next(results)


def test_batches_are_taken_one_at_a_time(tmp_path):
    waiting = []

    def data():
        for i, batch in enumerate(batches()):
            waiting.append(names(tmp_path))
            assert len(waiting[-1]) == i
            yield batch

    assert len(list(run(tmp_path, data=data()))) == 3


def test_no_batches_are_no_results(tmp_path):
    assert list(run(tmp_path, data=[])) == []


def test_a_finished_job_computes_nothing_and_gives_the_same(tmp_path):
    calls = []
    attribute = counted(explain(), calls)
    first = list(run(tmp_path, attribute))
    assert calls == [3, 3, 1]
    assert_same(run(tmp_path, attribute), first)
    assert calls == [3, 3, 1]


def test_only_what_is_missing_is_computed(tmp_path):
    calls = []
    attribute = counted(explain(), calls)
    first = list(run(tmp_path, attribute))
    (tmp_path / "batch_00000002.npz").unlink()
    assert_same(run(tmp_path, attribute), first)
    assert calls == [3, 3, 1, 1]
    more = np.concatenate([ROWS, ROWS])[:9]  # batch 2 has grown
    (tmp_path / "batch_00000002.npz").unlink()
    assert len(list(run(tmp_path, attribute, batches(more)))) == 3
    assert calls == [3, 3, 1, 1, 3]


@pytest.mark.parametrize("crash", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_job_keeps_what_it_has_and_frees_the_directory(crash, tmp_path):
    def data():
        yield from batches()[:2]
        raise crash

    with pytest.raises(crash):
        run(tmp_path, data=data())
    assert len(names(tmp_path)) == 2
    assert len(list(run(tmp_path))) == 3


# --- killed by the system

LENGTH = 25


def numpy_job(folder, log):
    """A slow function of NumPy only, which writes down every batch that it computes."""

    def attribute(x):
        with open(log, "a") as stream:
            stream.write(f"{int(x[0, 0])} ")
        time.sleep(0.003)
        values = np.sin(x * np.arange(1.0, 20_001))
        rest: dict = {
            field.name: x[:, 0] for field in dataclasses.fields(igjax.Attribution)
        }
        return igjax.Attribution(**rest | {"values": values, "error": abs(values)})

    data = [(np.full((4, 1), float(i)),) for i in range(LENGTH)]
    igjax.attribute_batches(attribute, data, folder, progress=False)


def written(folder):
    return {int(path.stem[6:]) for path in folder.glob("batch_*.npz")}


@pytest.mark.slow
def test_a_job_that_is_killed_again_and_again_ends_as_if_nothing_had_been(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    folder, whole, log = tmp_path / "killed", tmp_path / "whole", tmp_path / "log"
    folder.mkdir()
    chance, computed, kills = random.Random(0), [], 0
    while True:
        log.write_text("")
        before = written(folder)
        job = context.Process(target=numpy_job, args=(folder, log))
        job.start()
        while not log.read_text() and job.is_alive():
            time.sleep(0.001)
        job.join(chance.uniform(0, 0.05))
        job.kill()
        job.join()
        kills += job.exitcode == -signal.SIGKILL
        begun = [int(i) for i in log.read_text().split()]
        assert not before & set(begun), "computed again"
        assert len(set(begun)) == len(begun)
        # All but the one in hand were written before the next one was begun.
        assert set(begun[:-1]) <= written(folder)
        computed += begun
        if job.exitcode == 0:
            break
        assert job.exitcode == -signal.SIGKILL
    assert kills >= 3
    assert len(computed) <= LENGTH + kills
    assert names(folder) == [f"batch_{i:08d}.npz" for i in range(LENGTH)]  # no half files

    job = context.Process(target=numpy_job, args=(whole, log))
    job.start()
    job.join()
    for name in names(whole):
        got, want = (igjax.load(f / name) for f in (folder, whole))
        assert_same([got.result], [want.result])
        assert got.about["inputs"] == want.about["inputs"]


@pytest.mark.slow
def test_processes_share_a_job_whichever_of_them_are_killed(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    folder, log = tmp_path / "shared", tmp_path / "log"
    folder.mkdir()
    log.touch()
    job = lambda: context.Process(target=numpy_job, args=(folder, log))
    jobs = [job() for _ in range(4)]
    for process in jobs:
        process.start()
    while len(written(folder)) < 5:
        time.sleep(0.001)
    for process in jobs[:2]:
        process.kill()
    late = job()  # comes in on the way
    late.start()
    for process in [*jobs, late]:
        process.join()
    assert [process.exitcode for process in [*jobs[2:], late]] == [0, 0, 0]
    killed = sum(process.exitcode == -signal.SIGKILL for process in jobs)
    assert names(folder) == [f"batch_{i:08d}.npz" for i in range(LENGTH)]
    computed = [int(i) for i in log.read_text().split()]
    assert set(computed) == set(range(LENGTH))
    assert len(computed) <= LENGTH + killed  # but what the killed had in hand


def test_half_files_of_a_killed_process_are_cleared_away(tmp_path):
    half = tmp_path / ".batch_00000000.npz.0123.part"
    half.write_bytes(b"half")
    other = tmp_path / "notes.part"
    other.write_text("mine")
    assert len(list(run(tmp_path))) == 3
    assert not half.exists()
    assert other.exists()


SCRIPT = """
import sys
import igjax, jax, jax.numpy as jnp, numpy as np
weights = jnp.arange(3.0)
rule = igjax.rules.gauss_legendre(4)
attribute = igjax.integrated_gradients(lambda x: jnp.tanh(x @ weights), rule=rule)
explain = jax.jit(jax.vmap(attribute, (0, None)))
batch = np.ones((2, 3), "float32"), 0.0
results = igjax.attribute_batches(explain, [batch] * int(sys.argv[2]), sys.argv[1])
print(len(list(results)))
"""


@pytest.mark.slow
def test_a_jitted_job_goes_on_in_another_process(tmp_path):
    # The hash of the program must not depend on the process: its names, ids and seeds.
    for i in (1, 2):
        script = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), str(i)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": str(i)},
        )
        assert script.stdout == f"{i}\n"
    programs = [igjax.load(tmp_path / name).about["program"] for name in names(tmp_path)]
    assert programs[0] == programs[1] != "unknown"


# --- what is another job

OTHER_DATA = {
    "shuffled": lambda: batches(ROWS[::-1]),
    "one bit": lambda: batches(np.nextafter(ROWS, 9)),
    "dtype": lambda: batches(ROWS.astype("float32").astype(">f4").astype("float32")),
    "batch size": lambda: batches(size=2),
    "baseline": lambda: [(x, 0.5) for x, _ in batches()],
    "structure": lambda: [({"x": x}, 0.0) for x, _ in batches()],
    "more arguments": lambda: [(*batch, None, 0.0) for batch in batches()],
}


@pytest.mark.parametrize("data", OTHER_DATA.values(), ids=OTHER_DATA)
def test_other_batches_are_refused(data, tmp_path):
    anything = lambda *batch: explain()(batches()[0][0], 0.0)
    run(tmp_path, anything)
    with pytest.raises(ValueError, match=r"batch 0 must be the one that .* Pass the same"):
        run(tmp_path, anything, data())
    assert len(names(tmp_path)) == 3


def test_data_that_differ_later_are_refused_there(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match="batch 2 must be the one"):
        run(tmp_path, data=batches(np.concatenate([ROWS[:6], ROWS[:1]])))


OTHER_PROGRAMS = {
    "weights": lambda: explainer((0.0, 1.0, np.nextafter(2, 3))),
    "rule": lambda: explainer(rule=igjax.rules.gauss_legendre(5)),
    "no jit": lambda: counted(explain(), []),
}


@pytest.mark.parametrize("other", OTHER_PROGRAMS.values(), ids=OTHER_PROGRAMS)
def test_another_program_is_refused(other, tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another job: program was .*new dir"):
        run(tmp_path, other())


def test_the_same_program_built_anew_is_the_same(tmp_path):
    run(tmp_path)
    assert len(list(run(tmp_path, explainer()))) == 3


OTHER_WORDS = {
    "rule": ({"rule": RULE}, {"rule": igjax.rules.adaptive()}),
    "model": ({"model": "v1"}, {"model": "v2"}),
    "seed": ({}, {"seed": 1}),
    "layer": ({"layer": [1, 2]}, {}),
}


@pytest.mark.parametrize("name", OTHER_WORDS)
def test_another_rule_or_note_is_refused(name, tmp_path):
    begun, now = OTHER_WORDS[name]
    attribute = counted(explain(), [])
    run(tmp_path, attribute, **begun)
    run(tmp_path, attribute, **begun)
    with pytest.raises(ValueError, match=f"belongs to another job: {name} was"):
        run(tmp_path, attribute, **now)


def test_other_precision_is_refused(tmp_path):
    attribute = counted(explain(), [])
    run(tmp_path, attribute)
    with (
        jax.default_matmul_precision("bfloat16"),
        pytest.raises(ValueError, match=r"another job: settings was .* is .*bfloat16"),
    ):
        run(tmp_path, attribute)


def test_another_igjax_is_refused(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr("igjax.running.jobs.version", lambda name: "99.0")
    with pytest.raises(ValueError, match=r"another job: igjax was .* is '99\.0'"):
        run(tmp_path)


def test_notes_that_json_changes_are_the_same_at_the_next_start(tmp_path):
    for _ in range(2):
        assert len(list(run(tmp_path, layers=(1, 2), names={3: "a"}))) == 3


def test_files_beyond_the_end_of_the_data_are_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"2 batches, and .*batch_00000002\.npz"):
        run(tmp_path, data=batches()[:2])
    generator = iter(batches())
    list(generator)
    with pytest.raises(ValueError, match=r"0 batches.*a generator can be used only once"):
        run(tmp_path, data=generator)


def test_a_damaged_file_is_refused_and_says_how_to_mend_it(tmp_path):
    first, file = list(run(tmp_path)), tmp_path / "batch_00000001.npz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"00001\.npz is damaged.* Delete it and call"):
        run(tmp_path)
    file.unlink()
    assert_same(run(tmp_path), first)


def test_a_result_of_something_else_is_no_result_of_the_job(tmp_path):
    igjax.save(tmp_path / "batch_00000000.npz", explain()(*batches()[0]))
    with pytest.raises(ValueError, match="belongs to another job: inputs was None"):
        run(tmp_path)


LEAVES = {
    "key": (jax.random.key, 1, 2),
    "bfloat16": (lambda v: np.array([v], ml_dtypes.bfloat16), 1, 2),
    "empty": (lambda v: np.zeros((v, 0)), 1, 2),
    "bool": (bool, 0, 1),
    "text": (str, "a", "b"),
    "device array": (jnp.float32, 1, 2),
}


@pytest.mark.parametrize("name", LEAVES)
def test_all_kinds_of_arguments_are_told_apart(name, tmp_path):
    make, a, b = LEAVES[name]
    result = explain()(*batches()[0])
    attribute = lambda argument: result
    for _ in range(2):
        run(tmp_path, attribute, [(make(a),)])
    with pytest.raises(ValueError, match="got other data"):
        run(tmp_path, attribute, [(make(b),)])


# --- misuse and trouble


@pytest.mark.parametrize("batch", [ROWS, {"x": ROWS}, None], ids=["array", "dict", "none"])
def test_a_batch_must_be_a_tuple(batch, tmp_path):
    with pytest.raises(TypeError, match=r"attribute_batches: a batch must .* batch 0"):
        run(tmp_path, data=[batch])


def test_lists_are_batches_too(tmp_path):
    assert len(list(run(tmp_path, data=[list(batch) for batch in batches()]))) == 3


def test_a_function_of_another_kind_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"must return an Attribution, got ndarray"):
        run(tmp_path, lambda x, b: x)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["file", "result", "inputs", "program"])
def test_names_of_notes_that_are_taken_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"notes must not be called .*{name}"):
        run(tmp_path, **{name: 1})


def test_processes_of_two_jobs_do_not_share_a_directory(tmp_path):
    code = "import sys, igjax; igjax.attribute_batches(print, [], sys.argv[1])"

    def data():
        yield batches()[0]
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
        )
        assert second.returncode
        assert (
            f"RuntimeError: attribute_batches: only one job may be done in {tmp_path}"
            in (second.stderr)
        )
        assert f"process {os.getpid()} on " in second.stderr
        yield from batches()[1:]

    assert len(list(run(tmp_path, data=data()))) == 3


@contextlib.contextmanager
def files_no_longer_than(size):
    """Lets the system refuse to write more, as it does when the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_what_was_written_and_says_how_to_go_on(tmp_path):
    long = np.ones((4, 1000, 3))
    last = (np.ones((40, 1000, 3)), 0.0)
    attribute = explain()
    flat = lambda x, b: attribute(x.reshape(-1, 3), b)
    data = [*((x[None], 0.0) for x in long), last]
    with (
        files_no_longer_than(1 << 20),
        pytest.raises(
            OSError, match=r"batch 4 could not be .* that are there are kept"
        ) as caught,
    ):
        run(tmp_path, flat, data)
    assert caught.value.errno == errno.EFBIG
    assert names(tmp_path) == [f"batch_{i:08d}.npz" for i in range(4)]
    calls = []
    assert len(list(run(tmp_path, counted(flat, calls), data))) == 5
    assert calls == [40]


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_computed(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    calls = []
    for place in (file, file / "inside"):
        with pytest.raises(OSError, match="must be a directory that can be written to"):
            run(place, counted(explain(), calls))
    assert calls == []


def test_a_file_system_without_locks_is_no_hindrance(tmp_path, monkeypatch):
    def lockf(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", lockf)
    assert len(list(run(tmp_path))) == 3


# --- progress


def test_progress_is_shown_on_stderr_only(tmp_path, capsys):
    pytest.importorskip("tqdm")
    igjax.attribute_batches(explain(), batches(), tmp_path)
    shown = capsys.readouterr()
    assert "3/3" in shown.err
    assert shown.out == ""


def test_progress_can_be_left_out(tmp_path, capsys):
    run(tmp_path)
    assert capsys.readouterr() == ("", "")


def test_without_tqdm_there_is_no_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert len(list(igjax.attribute_batches(explain(), batches(), tmp_path))) == 3
    assert capsys.readouterr().err == ""


def test_notes_that_cannot_be_written_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(TypeError, match="notes must be what JSON can hold"):
        run(tmp_path, seed=np.int64(3))
    assert names(tmp_path) == []
