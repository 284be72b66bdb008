# Two commands are all that a newcomer needs: `make demo` and `make test`. Each makes the environment if need be.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/demo
# Another interpreter and PyTorch than above: those of a GPU machine. PyTorch's build for CUDA runs without a GPU too.
GPU_PYTHON ?= python3.12
GPU_TORCH ?= 2.11.0
GPU_VENV := .venv-gpu-software

.PHONY: demo test test-gpu-software check exact bench soak docs clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,ray,export,openvino,docs]'
	touch $@

# A second `make demo` resumes the run that is there, or shows its result.
demo: $(STAMP)
	$(BIN)/rolewise run $(if $(wildcard $(OUT)/config.json),--resume,--out) $(OUT)

# A test process that dies ends the whole at once: with another one in its place, pytest-xdist may wait for ever.
TEST := -n 2 --dist loadfile --max-worker-restart 0
test: $(STAMP)
	$(BIN)/python -m pytest $(TEST)

$(GPU_VENV)/.installed: pyproject.toml
	$(GPU_PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/pip install --quiet torch==$(GPU_TORCH) numpy numba pydantic safetensors filelock jaxtyping pillow \
		pyyaml typer rich matplotlib jinja2 onnx onnxruntime onnxscript openvino tensorboard huggingface_hub \
		pytest pytest-timeout pytest-xdist hypothesis beartype scipy click mypy ruff types-PyYAML
	touch $@

# The quick tests on the software of a machine with a GPU, without one; what it lacks (Ray) is left out.
test-gpu-software: $(GPU_VENV)/.installed
	PYTHONPATH=$(CURDIR)/src $(GPU_VENV)/bin/python -m pytest -m "not slow and not ray" $(TEST)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Every op against the newest Pillow 11, 12 and 13, each in an environment of its own. DATA_ROOT: real CIFAR images too.
exact: $(STAMP)
	$(BIN)/python benchmarks/exact.py $(if $(DATA_ROOT),--data-root $(DATA_ROOT))

bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py

# Broken input of every kind and kills at random moments; an hour or two. A short form is part of `make test`.
soak: $(STAMP)
	$(BIN)/python tests/fuzz/soak.py --settings 3000 --records 2000 --schedules 2000 --networks 1000 --folders 1000 --archives 1000 --kills 48 --record

# The documentation as a site, in docs/_build; a dead link within it is an error.
docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

clean:
	rm -rf $(VENV) $(GPU_VENV)
