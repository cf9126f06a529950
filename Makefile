# Everything is run through make; `make help` lists what there is.
# On x86-64 Linux this needs Python 3.11 (with venv) and make, no compiler.

PYTHON ?= python3.11
PRESET ?= quick
ONLY   ?=
OUT    ?=
ARGS   ?=
JOBS   ?= 2

VENV  := .venv
BIN   := $(VENV)/bin
# Written last, so an install that was interrupted starts again.
STAMP := $(VENV)/installed
PIP   := $(BIN)/python -m pip --disable-pip-version-check
# The notebooks that tests run: those below WHERE, without a folder LEAVE.
WHERE  ?= nbs
LEAVE  ?=
ROOMS   = --path $(WHERE) --file_re '^(?!index|benchmarks|robustness)' --skip_folder_re '^(paper|$(LEAVE)|[._].*)$$'
# Of each of the processes that run tests: more threads than cores wait for each other.
ONE_THREAD := TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help install reproduce figures test tests rooms bench lab docs readme format export clean-notebooks prepare clean

help:  ## this list
	@echo 'usage: make TARGET [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  make reproduce PRESET=cpu ONLY=fig_time     one figure and what it needs, at preset cpu'
	@echo '  make reproduce OUT=DIR ARGS="-p seed=1"     elsewhere, with a parameter of your own'
	@echo '  make lab ARGS="--no-browser --ip 0.0.0.0"   over SSH or in a container (as root: --allow-root, too)'
	@echo '  make install PYTHON=/path/to/python3.11     another interpreter'

$(STAMP): constraints.txt settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON) is not Python 3.11: install Python 3.11 (such as by uv python install 3.11), or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv: install it (Debian, Ubuntu: apt install python3.11-venv)"; exit 1; }
	@echo 'Installing the versions of constraints.txt into $(VENV): 3.5 GB, some 2 minutes'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet -c constraints.txt setuptools wheel
	@$(PIP) install --quiet --no-build-isolation -c constraints.txt -e '.[dev]'
	@touch $@

install: $(STAMP)  ## make .venv from the lock (every target below does so by itself)

reproduce: $(STAMP)  ## run everything in paper.yml (PRESET=quick; ONLY="fig_time ...", OUT=DIR, ARGS=...)
	@$(BIN)/dans-reproduce $(ONLY) --preset $(PRESET) $(if $(OUT),--out $(OUT)) $(ARGS)

figures: $(STAMP)  ## redraw figures/ from the committed rows; computes nothing
	@$(BIN)/dans-reproduce $(ONLY) --preset cpu --redraw $(ARGS)

test: tests rooms  ## all tests, in JOBS=2 processes: pytest, then the notebooks that document the library

tests: $(STAMP)  ## pytest alone
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=20

rooms: $(STAMP)  ## nbdev_test alone: rooms, tutorials and archive (WHERE=nbs/4_choose: those of a folder)
	$(ONE_THREAD) $(BIN)/nbdev_test $(ROOMS) --n_workers $(JOBS) --timing

bench: $(STAMP)  ## how fast, side by side: benchmarks/results.json and the page (ONLY="quick_space ...", ARGS=--help)
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(ARGS)

lab: $(STAMP)  ## JupyterLab on the notebooks (ARGS="--no-browser --port 8890")
	@$(BIN)/jupyter lab --ServerApp.root_dir=. $(ARGS) nbs/index.ipynb

docs: $(STAMP)  ## the site in _docs/, which needs no server; tests then open it
	@$(BIN)/python tools/docs.py site

readme: $(STAMP)  ## README.md from nbs/index.ipynb
	@$(BIN)/python tools/docs.py readme

export: $(STAMP)  ## dans/*.py from the notebooks
	$(BIN)/nbdev_export

format: $(STAMP)  ## ruff format, and what ruff can mend, over notebooks, tests, benchmarks and tools
	$(BIN)/ruff check --quiet --fix . || true
	$(BIN)/ruff format .

clean-notebooks: $(STAMP)  ## remove volatile metadata from the notebooks (outputs stay)
	$(BIN)/nbdev_clean

prepare: format export clean-notebooks readme test  ## what a commit needs: format, export, clean, README, tests

clean:  ## remove what make made, runs/ aside
	rm -rf $(VENV) _proc _docs *.egg-info .pytest_cache .ruff_cache .hypothesis
