# Two commands are all that a newcomer needs: `make demo` and `make test`. Each makes the environment if need be.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/demo

.PHONY: demo test check exact bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,ray,export,openvino]'
	touch $@

# A second `make demo` goes on with the run that is there, or shows its result.
demo: $(STAMP)
	$(BIN)/rolewise run $(if $(wildcard $(OUT)/config.json),--resume,--out) $(OUT)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Every op against the newest Pillow 11, 12 and 13, each in an environment of its own. DATA_ROOT: real CIFAR images too.
exact: $(STAMP)
	$(BIN)/python benchmarks/exact.py $(if $(DATA_ROOT),--data-root $(DATA_ROOT))

bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py

clean:
	rm -rf $(VENV)
