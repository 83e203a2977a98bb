# What a developer does here: `make help` lists it. Nothing is installed outside of this folder, but for caches below ~/.cache.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
# The tests wait as much as they compute: several workers share a core. Each has servers of its own, of up to 1.5 GB
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? 3 * n : 12)))
PARALLEL = $(BIN)/pytest -n $(WORKERS)
# The first interpreter that is new enough; PYTHON=... on the command line chooses another
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)

.PHONY: help venv page demo check check-code check-unit format test durations test-tools faults faults-long chaos mutations fuzz bench bench-quick bench-long deploy-check source-check nights vo-check page-check constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/.installed ## Build .venv with the locked versions of everything

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "missing: python3, version 3.11 or later (or say: make PYTHON=/path/to/python3)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "missing: the modules venv and ensurepip of $(PYTHON) (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The scripts and styles that the process `visit-consumer page` serves; without Node everything else works
PAGE := consumer/page
page: $(PAGE)/static/index.html ## Build the bundle of the page for people: needs Node 18 or later, and npm

$(PAGE)/static/index.html: $(wildcard $(PAGE)/browser/source/* $(PAGE)/browser/*.json $(PAGE)/browser/build.mjs)
	@command -v node >/dev/null && command -v npm >/dev/null || { \
		echo "missing: node, version 18 or later, and npm (Debian: nodejs npm): no bundle of the page" >&2; exit 1; }
	cd $(PAGE)/browser && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent build

demo: venv ## Run the whole path on this machine: a broker, a database, a night of events, a picture
	@$(MAKE) --no-print-directory page || echo "the page has no bundle: it shows what is missing" >&2
	$(BIN)/visit-consumer demo $$(test -t 0 && echo --stay)

check: venv ## Format, lint, types, import rules and unit tests: two minutes, no servers
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target check-code check-unit

check-code: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

check-unit: venv
	$(BIN)/pytest -q -n 2 tests/unit

format: venv ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The long ones have targets of their own; pyproject.toml says which markers there are
test: venv test-tools ## All tests, on Apache Kafka and PostgreSQL where they can be had
	$(PARALLEL) -m 'not long'

durations: venv test-tools ## The same, and write down how long files take, so that the longest begin first
	$(PARALLEL) -m 'not long' --write-durations

faults: venv test-tools ## The faults, one line each: what it cost and what was lost
	$(PARALLEL) -m 'not long' tests/faults

faults-long: venv test-tools ## The faults that take minutes each
	$(BIN)/pytest -m long tests/faults

# MINUTES=20 for longer, SEED=n for the actions of an earlier run
MINUTES ?= 5
chaos: venv test-tools ## Five minutes of kills, restarts, broken networks and operators, then a replay of the log
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

mutations: venv test-tools ## Take out each rule of the ledger: a test must fail for each; a quarter of an hour
	$(BIN)/python -m tests.mutations

# SCHEDULES=1000 for fewer; a seed that failed: .venv/bin/python -m tests.simulation --seed N
SCHEDULES ?= 100000
simulation: venv ## Replicas, brokers and store on simulated time, a seed deciding what happens next: two hours
	$(BIN)/python -m tests.simulation --schedules $(SCHEDULES)

model: venv ## Every state of the model of the fence, and 1,000 of its traces on PostgreSQL: ten minutes, 2 GB
	@command -v spin >/dev/null && command -v gcc >/dev/null || { echo "missing: spin, gcc (Debian: spin gcc)" >&2; exit 1; }
	$(BIN)/pytest -p no:randomly -v tests/model -m ''

# TARGET=notifications for one of them
TARGET ?= decoder notifications headers header_maps conninfo cameras http
fuzz: venv ## A coverage-guided minute on each parser of what comes from outside; what it finds joins the corpus
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	for target in $(TARGET); do $(BIN)/python -m tests.fuzz $$target -max_total_time=60 || exit 1; done

bench: venv test-tools ## Throughput, stages and latency against floor and ceiling: a quarter of an hour
	$(BIN)/python -m tests.benchmarks full

bench-quick: venv test-tools ## The first three in small, compared with the committed figures: a minute
	$(BIN)/python -m tests.benchmarks quick

bench-long: venv test-tools ## Growth, scaling, catch-up, soak: an hour or two
	$(BIN)/python -m tests.benchmarks long

deploy-check: venv ## Image, chart, Compose, dashboards, alerts, interface: a line for each check
	REQUIRE_DEPLOY_TOOLS=1 REQUIRE_PROMETHEUS=1 $(BIN)/pytest -p no:randomly -v -m '' tests/deploy \
		tests/integration/test_demo.py::test_the_wheel_carries_all_that_the_demo_needs

cluster-check: venv ## The chart on a real Kubernetes API server, with kwok for its nodes; builds them first, once
	REQUIRE_DEPLOY_TOOLS=1 $(BIN)/pytest -p no:randomly -v tests/cluster -m ''

source-check: venv test-tools ## Emitters on a real Ceph and Kafka, killed again and again: ten minutes
	REQUIRE_CEPH=1 REQUIRE_APACHE_KAFKA=1 $(BIN)/pytest -p no:randomly -v tests/integration/sources -m ''

nights: venv test-tools ## The nights that Rubin's task defined, through Apache Kafka: by one to eight partitions, one to three replicas
	$(PARALLEL) -m '' tests/integration/test_define_visits_kafka.py

vo-check: venv ## The ObsCore table behind GAVO DaCHS: taplint and pyvo ask it; footprints and exports of all cameras; ten minutes
	@command -v dachs >/dev/null && command -v stilts >/dev/null || { \
		echo "missing: dachs, stilts (Debian: python3-gavo stilts postgresql-15-pgsphere)" >&2; exit 1; }
	$(BIN)/pytest -p no:randomly -v tests/vo tests/property/test_obscore_regions.py tests/integration/test_obscore.py -m ''

sbom: venv ## What the image holds: a bill of materials (CycloneDX), and its licences, which were all agreed on
	rm -rf build/image
	$(PYTHON) -m venv build/image
	build/image/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[butler,page,sources]'
	build/image/bin/python -m pip uninstall --quiet --yes pip setuptools visit-consumer
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-format JSON --output-file build/sbom.cdx.json build/image/bin/python
	$(BIN)/python -m deploy.licences build/sbom.cdx.json

page-check: venv page ## The page in a real browser: a live night, restarts, hostile names, axe-core, screenshots
	@command -v chromium >/dev/null || { echo "missing: chromium (Debian: chromium)" >&2; exit 1; }
	REQUIRE_BROWSER=1 $(BIN)/pytest -p no:randomly -v tests/browser -m ''

# Without these the tests run on less, and say so in their last lines; REQUIRE_APACHE_KAFKA=1 makes that a failure
test-tools:
	@command -v java >/dev/null || echo "missing: java, version 17 or later (Debian: default-jre-headless): no Apache Kafka" >&2
	@command -v mvn >/dev/null || echo "missing: mvn (Debian: maven): no Apache Kafka, unless its jars are in the cache" >&2
	@command -v radosgw >/dev/null || echo "missing: radosgw (Debian: ceph-mon ceph-osd radosgw ceph-common): no Ceph" >&2
	@command -v chromium >/dev/null || echo "missing: chromium (Debian: chromium): no browser over the page" >&2
	@$(MAKE) --no-print-directory page || echo "the page has no bundle: its tests in a browser are left out" >&2
	@test -x /usr/lib/postgresql/15/bin/postgres || echo "missing: PostgreSQL 15 (Debian: postgresql-15): only 18" >&2

constraints: ## Take up the newest versions that pyproject.toml allows: writes constraints.txt
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check '.[dev,release]'
	{ sed -n '/^#/p' constraints.txt; \
	  build/constraints/bin/python -m pip freeze --exclude visit-consumer | sed -n '/^[A-Za-z0-9._-]*==[^ ]*$$/p' | LC_ALL=C sort -f; \
	} > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/constraints

clean: ## Remove what make made here (not the caches below ~/.cache)
	rm -rf $(PAGE)/static $(PAGE)/browser/node_modules
	rm -rf .venv build dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find consumer tests -name __pycache__ -type d -prune -exec rm -rf {} +
