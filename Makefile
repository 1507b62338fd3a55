# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
export PYTHONPATH := $(CURDIR)
# The machine's own certificates: behind a company proxy the bundled ones do not do.
export UV_SYSTEM_CERTS ?= true

.DEFAULT_GOAL := help
.PHONY: help demo down test test-unit test-integration test-e2e test-stories test-faults bench lint format generate check-generated images lock clean-cache

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

demo: .venv/ready  ## Cluster, images, chart and example tasks, shown live until they finish
	@$(PY) tools/demo.py

down: .venv/ready  ## Remove everything that make demo started
	@$(PY) tools/demo.py --down

test: .venv/ready  ## All tests, on clusters that the tests start themselves
	@$(PY) tools/run_tests.py all

test-unit: .venv/ready  ## The fast tests
	@$(PY) tools/run_tests.py unit

test-integration: .venv/ready  ## Tests on a real API server
	@$(PY) tools/run_tests.py integration

test-e2e: .venv/ready  ## Tests on a real kubelet
	@$(PY) tools/run_tests.py e2e

test-stories: .venv/ready  ## 50,000 stories of each model of admission, an hour; STORIES=1000: so many
	@LONGTASK_STORIES=$(or $(STORIES),50000) $(PY) tools/run_tests.py stories

test-faults: .venv/ready  ## A crash at every write of every scenario, one line of JSON per trial
	@mkdir -p build && PYTHONPATH=operator:worker-image:. $(PY) -m tests.faults --out build/faults.jsonl

bench: .venv/ready  ## What it must hold under load, measured; half an hour alone on the machine; SCALE=small: 5
	@PYTHONPATH=.:operator $(PY) -m bench --scale $(or $(SCALE),full) $(if $(ONLY),--only $(ONLY)) $(if $(filter full,$(or $(SCALE),full)),--page)

lint: .venv/ready  ## Style, types, generated files
	@$(PY) tools/run_tests.py lint

format: .venv/ready  ## Rewrite the code in the project's style
	.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format --quiet .

generate: .venv/ready  ## Write all generated files anew
	$(PY) tools/generate.py
	$(PY) tools/chart_docs.py
	$(PY) gitops/argo-cd/build.py

images: .venv/ready  ## Build the images that changed, into the cache
	@$(PY) tools/demo.py --images-only

lock:  ## Resolve all dependencies anew
	uv pip compile -q pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url --no-header --upgrade -o requirements-dev.lock
	uv pip compile -q pyproject.toml --universal --generate-hashes --no-emit-index-url --no-header --upgrade -o operator/requirements.lock

clean-cache: .venv/ready  ## Delete compiled binaries and images; the next run makes them anew
	$(PY) -m devcluster prune-cache

.venv/ready: requirements-dev.lock tools/bootstrap
	@tools/bootstrap
