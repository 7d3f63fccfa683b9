# make demo   set up, then export, verify and measure the demo network
# make test   set up, then run the tests
# make check  set up, then check style and types
# make setup  .venv here, pinned packages, MindSpore Lite with its binding, the YuNet face detector

PYTHON ?= python3
VENV := .venv
# each needs up to 2 GB
TEST_PROCESSES ?= 2
READY := $(VENV)/.ready
PACKAGES := runtime synergy_model export benchmarks
# the installed layout as links: in it types are checked across packages
TYPES := $(VENV)/types/synergy

.PHONY: setup demo test check lock

setup: $(READY)
	@$(VENV)/bin/synergy lite install || { \
		echo "MindSpore Lite is not ready (see above); all else works. Then run: make setup"; \
		test "$(SYNERGY_REQUIRE_LITE)" != 1; }
	@$(VENV)/bin/synergy detector install || \
		echo "OpenCV's cascades detect faces until YuNet is installed. Then run: make setup"

$(READY): constraints.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || { \
		echo "MindSpore needs Python 3.10, 3.11 or 3.12, this is $$($(PYTHON) --version)."; \
		echo "Name another: make PYTHON=python3.12 setup"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing: on Debian, apt-get install python3-venv"; exit 1; }
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(VENV)/bin/python -m compileall -q cli.py synergy $(PACKAGES) # a tenth of a second at each start
	@touch $(READY)

demo: setup
	$(VENV)/bin/synergy demo

test: setup
	$(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@mkdir -p $(TYPES)
	@for name in $(PACKAGES) cli.py synergy/__init__.py synergy/__main__.py synergy/py.typed; do ln -sfn $(CURDIR)/$$name $(TYPES)/; done
	cd $(VENV)/types && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache

# Renew the pins: needs uv (pip install uv).
lock:
	uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
		--extra export --extra onnx --extra openvino --extra ray --extra train --extra bench --extra dev \
		-o constraints.txt pyproject.toml
