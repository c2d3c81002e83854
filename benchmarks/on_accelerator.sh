#!/usr/bin/env bash
# All that wants an accelerator, on one, in under eight minutes: the tests marked gpu, the zoo
# beside Captum and torch on the same device, compiling, memory, short suites of the promise.
#
#   benchmarks/on_accelerator.sh --wheels FOLDER       what is missing there, fetched where there is a network
#   benchmarks/on_accelerator.sh TABLE.md [FOLDER]     run there; FOLDER holds the wheels
#   benchmarks/on_accelerator.sh --cpu TABLE.md        the same, short, on a CPU: that it works at all
#
# It expects JAX and torch for the device, and no network. PYTHON names another interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

if [ "${1:-}" = --wheels ]; then
  mkdir -p "$2"
  $python -m pip wheel --quiet --no-deps --wheel-dir "$2" .
  $python -m pip download --quiet --dest "$2" --no-deps --only-binary=:all: \
    --python-version "${VERSION:-3.12}" \
    flax optax chex orbax-checkpoint tensorstore treescope msgpack toolz absl-py etils \
    humanize nest-asyncio simplejson psutil aiofiles protobuf uvloop rich markdown-it-py mdurl \
    pygments typing-extensions pyyaml numpy scipy matplotlib contourpy cycler fonttools \
    kiwisolver packaging pillow pyparsing python-dateutil six tqdm captum==0.9.0 \
    pytest pluggy iniconfig hypothesis sortedcontainers scikit-learn joblib threadpoolctl
  exit
fi

gpu=yes
zoo=(--repeats 5) suites=(--inputs 100 --dtypes float32)
if [ "${1:-}" = --cpu ]; then
  shift
  export JAX_PLATFORMS=cpu
  gpu=no
  zoo=(--repeats 1 --networks mlp lstm)
  suites=(--inputs 10 --dtypes float32)
fi
table=$(realpath -m "$1") room=$PWD/build/accelerator
rm -rf "$room" && mkdir -p "$room"
# igjax itself, and only what is not there: JAX, torch and NumPy are the device's.
for wheel in "${2:-none}"/*.whl; do
  name=$(basename "$wheel" | cut -d - -f 1)
  if [ "$name" != igjax ] && $python -c "import importlib.metadata as m; m.version('$name')"; then
    continue
  fi 2> /dev/null
  [ -e "$wheel" ] && $python -m pip install --quiet --no-index --no-deps --target "$room" "$wheel"
done
export PYTHONPATH=$room:$PWD
[ $gpu = no ] || $python -c "import jax; assert jax.default_backend() != 'cpu', 'no accelerator'"

section() { # title, seconds, command: what it prints goes into the table, failures as well
  echo "$1" >&2
  printf '\n## %s\n\n    %s\n\n' "$1" "${*:3}" >> "$table"
  (cd "${folder:-benchmarks}" && timeout "$2" "${@:3}" 2>&1 || echo "failed or stopped: $?") \
    | sed "s#$PWD/##g" >> "$table"
}

$python -c "
import jax, sys
device = jax.devices()[0]
print('# On', device.device_kind, '\n')
print('JAX', jax.__version__ + ', Python', sys.version.split()[0])
" > "$table"
folder=. section "Tests" 120 $python -m pytest -q -m gpu tests/running/test_accelerator.py
section "Networks as people write them" 150 $python bench_zoo.py "${zoo[@]}"
section "Compiling" 70 $python bench_compile.py --repeats 1 --models mlp transformer
section "The promise on hostile mixtures" 90 $python bench_hostile.py "${suites[@]}"
section "Memory" 50 $python bench_memory.py --models mlp --nodes 50 500 --inputs 2
echo "written: $table" >&2
