# Every command of the checkout; `make help` lists them. Works with GNU Make 3.81, which macOS has.

UV := sh scripts/uv.sh
# Programs are started as modules: the first line of a script in .venv/bin names the Python of the folder that it was
# installed in, so in a copy of a checkout it would run the original's code.
VENV := .venv/bin/python
RUN := $(VENV) -m
# Inside the environment of a running `make dev`, or of your own servers (.env).
IN_DEV := $(VENV) scripts/dev.py run

# A variable counts only if it was typed behind `make`: the shell may have exported one of the same name.
typed = $(if $(filter command,$(origin $(1))),$(value $(1)))
# For the shell, as it was typed.
quoted = '$(subst ','\'',$(call typed,$(1)))'
# What is switched on by a 1, and by nothing else: some of it deletes or releases.
on = $(if $(filter-out 0 1,$(call typed,$(1))),$(error $(1) is switched on by $(1)=1, and by nothing else))$(filter 1,$(call typed,$(1)))
# Each word of it; those that are known need no quotes.
listed = $(foreach each,$(call typed,$(1)),$(if $(filter $(2),$(each)),$(each),'$(subst ','\'',$(each))'))
PACKAGES := $(notdir $(wildcard packages/*))

# Make hands what was typed to every program, and runs what looks like a call of its own in it; these go by the above.
unexport AGAIN ARGS BASE BUMP CHANGED COVERAGE JSON LONG ONLY PACKAGE RESET SCALE UNTIL YES fields m name singular
# What others have exported for their own programs decides what these ones import, and whether each of the thousand
# processes that tests start compiles it again.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONSAFEPATH PYTHONWARNINGS PYTHONDONTWRITEBYTECODE MYPYPATH

.DEFAULT_GOAL := help
.PHONY: help install dev psql shell seed seed-large jobs api migrate revision test test-integration test-tools test-e2e test-attack test-slow test-nightly test-isolated coverage check \
	check-format check-lint check-types check-contracts check-dependencies check-sql check-lock docs guards feature feature-remove \
	bench bench-http bench-console bench-large bench-jobs bench-peers bench-failover format lock reference clean \
	public-api openapi client screenshots release check-public-api check-openapi check-fragments findings

help: ## List the targets
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' Makefile

##@ Run

install: ## Get uv if there is none, and everything the checkout needs into .venv/
	@sh scripts/install.sh

dev: install ## Run all of it: PostgreSQL, Valkey, API, worker, mail; RESET=1 starts over with empty data
	@$(VENV) scripts/dev.py up $(if $(call on,RESET),--reset)

psql: .venv/bin/python ## Open the development database (while `make dev` runs)
	@$(VENV) scripts/dev.py psql

shell: .venv/bin/python ## Open IPython with `session`, a database session (while `make dev` runs)
	@$(IN_DEV) python scripts/shell.py

seed: .venv/bin/python ## Put a first operator and sample data into the development database
	@$(IN_DEV) python -m app_api seed

# 200,000 rows a transaction, with a line each.
seed-large: .venv/bin/python ## Put a year of rows into it: 1,000,000 accounts, 2,200,000 jobs, 4 min; SCALE=0.1 a tenth
	@$(IN_DEV) python -m bench.big_tables_seed $(if $(call typed,SCALE),--scale $(call quoted,SCALE))

# Their arguments are one text, with the quotes of a shell; no shell reads it.
jobs api: export ARGUMENTS = $(call typed,ARGS)
jobs: .venv/bin/python ## Look into background jobs and steer them: make jobs ARGS="list --state discarded"; without ARGS: help
	@$(VENV) scripts/dev.py jobs "--arguments=$$ARGUMENTS"

api: .venv/bin/python ## Look after accounts and settings: make api ARGS="operator list"; without ARGS: help
	@$(VENV) scripts/dev.py api "--arguments=$$ARGUMENTS"

.venv/bin/python:
	@echo 'Nothing is installed in this checkout: type `make dev` in another terminal first'; exit 1

##@ Database schema

migrate: .venv/bin/python ## Bring the development database up to the newest revision
	@$(IN_DEV) python -m alembic upgrade head

revision: export MESSAGE = $(call typed,m)
revision: .venv/bin/python ## Write a revision from the difference between models and database: make revision m="add pets"
	@test -n "$$MESSAGE" || { echo 'Say what it does: make revision m="add pets"'; exit 1; }
	@$(IN_DEV) python -m alembic revision --autogenerate "--message=$$MESSAGE"

##@ Features

feature: export NAME = $(call typed,name)
feature: export FIELDS = $(call typed,fields)
feature: export SINGULAR = $(call typed,singular)
feature: install ## Write one: make feature name=bookmarks fields="url:str title:str? tags:list[str]"
	@$(VENV) scripts/feature.py add "--name=$$NAME" "--fields=$$FIELDS" "--singular=$$SINGULAR"

feature-remove: export NAME = $(call typed,name)
feature-remove: install ## Take one away, its tables by a revision: make feature-remove name=bookmarks
	@$(VENV) scripts/feature.py remove "--name=$$NAME"

##@ Prove

# With CHANGED=… long tests run if they are about a path that has changed (tests/reads.py).
SINCE = $(if $(call typed,CHANGED),--changed $(call quoted,CHANGED))

# AGAIN=1 runs those that failed last, one after the other; .ci/run asks for it.
ONLY_FAILED = $(if $(call on,AGAIN),-n 0 --last-failed --last-failed-no-failures none)

# COVERAGE=1 also records which lines and branches were run, for `make coverage`.
PYTEST = $(RUN) $(if $(call on,COVERAGE),coverage run -m )pytest

JOINED = packages tests --ignore=tests/e2e --ignore=tests/attack --ignore=tests/packaging --ignore=tests/tooling

test: install ## Test the packages and what joins them, in two minutes; needs nothing running
	$(PYTEST) -n auto $(JOINED) -m "not integration" $(ONLY_FAILED)

# More processes than processors: most of these tests wait for others. Only files with such tests, because each process
# would collect the others for 12 s.
test-integration: install ## The same, what takes longer: command lines, servers that fail, large tables, every revision
	$(PYTEST) -n 4 --dist loadfile --no-loadscope-reorder -m integration \
		$$(grep -rl 'mark.integration' --include 'test_*.py' packages/*/tests tests) $(ONLY_FAILED)

test-tools: install ## Test what is shipped and the tools of the checkout: wheels, lock files, guards, changelogs
	$(RUN) pytest -n auto tests/packaging tests/tooling -m "not slow" $(SINCE) $(ONLY_FAILED)

test-e2e: install ## Test real processes: started, used, killed; CHANGED=origin/main: of the long ones what that concerns
	$(RUN) pytest -n 4 --dist loadfile --no-loadscope-reorder tests/e2e tests/attack -m "not slow" $(SINCE) $(ONLY_FAILED)

test-attack: install ## Attack it: the seventy cases of tests/attack/cases.py over real HTTP, timing and soak included
	$(RUN) pytest tests/attack
	HYPOTHESIS_EXAMPLES=1000 $(RUN) pytest packages/auth/tests/test_session_model.py
	HYPOTHESIS_EXAMPLES=200 $(RUN) pytest --timeout=300 packages/api/tests/test_any_input.py
	SCHEMATHESIS_SECONDS=120 $(RUN) pytest tests/e2e/test_schema.py

test-slow: install ## Test what is too slow for the others and no attack: the whole suite of a renamed clone, features written and removed
	$(RUN) pytest tests/e2e tests/tooling -m slow

BETWEEN = pooled test_pgbouncer.py test_pooler_of_kubernetes.py test_sentinels.py test_tls_of_sentinels.py test_patroni.py

test-nightly: install ## Test PgBouncer, Sentinel and Patroni in one go; without pgbouncer or etcd-server those parts are skipped
	$(RUN) pytest -rs $(addprefix tests/e2e/,$(BETWEEN))

test-isolated: ## Test each package with what it declares and no more; PACKAGE=db only that one
	@for package in $(or $(call listed,PACKAGE,$(PACKAGES)),runtime db auth api worker); do \
		echo "pytest packages/$$package"; \
		$(UV) run --quiet --package "app-$$package" --isolated --group test python -m pytest -q "packages/$$package" || exit 1; \
	done

coverage: install ## After `make test COVERAGE=1`: every line and branch of packages/*/src was run
	@$(RUN) coverage combine --quiet
	$(RUN) coverage report

check: check-format check-lint check-types check-contracts check-dependencies check-sql check-lock check-public-api check-openapi ## All that follow

check-format: install ## Formatting (make format mends it)
	$(RUN) ruff format --check

check-lint: install ## Lint
	$(RUN) ruff check

check-types: install ## Types, strictly
	$(RUN) mypy

check-contracts: install ## Who may import whom
	$(VENV) .venv/bin/lint-imports

check-dependencies: install ## Each package declares what it imports, and no more
	@for package in packages/*; do \
		echo "deptry $$package"; (cd "$$package" && ../../$(RUN) deptry src) || exit 1; \
	done

check-sql: install ## The SQL of the revisions: what would lock a table for long, or cannot be undone
	@mkdir -p dist
	$(RUN) alembic upgrade head --sql > dist/revisions.sql
	.venv/bin/squawk dist/revisions.sql

check-lock: install ## requirements.lock files hold what is declared, and no more; no index is asked
	$(VENV) scripts/lock.py --check

check-public-api: install ## Each API.txt is what its package offers, and nothing it has released is gone unsaid
	@$(VENV) scripts/public_api.py --check

check-openapi: install ## packages/api/openapi.json is what the API says of itself
	@$(VENV) scripts/openapi.py --check

check-fragments: install ## Each package that differs from BASE=origin/main tells its users so
	@$(VENV) scripts/fragments.py $(if $(call typed,BASE),$(call quoted,BASE),origin/main)

guards: install ## Blank each line that a promise rests on, its test must fail; CHANGED=origin/main: what differs from it
	$(VENV) scripts/guards.py $(SINCE)

bench: bench-http bench-jobs bench-failover ## Measure (bench/README.md says what, and the last figures)

bench-http: install ## Measure the API
	$(VENV) bench/http.py

bench-console: install ## Measure pages of the console beside a million jobs, and 200 that are live, 5 min
	$(VENV) -m bench.console

bench-large: install ## Measure each list, filter and count of operators on a year of rows, 8 min; JSON=FILE keeps the figures
	$(VENV) -m bench.big_tables $(if $(call typed,JSON),--json $(call quoted,JSON))

bench-failover: install ## Measure the loss of each host, 1 min; ONLY="--asynchronous --frozen" (python -m bench.failover -h)
	$(VENV) -m bench.failover $(call listed,ONLY,)

bench-jobs: install ## Measure the jobs, 5 min; LONG=1: what takes half an hour; ONLY=rates,idle (python -m bench.jobs -h)
	$(VENV) -m bench.jobs $(if $(call on,LONG),--long) $(if $(call typed,ONLY),--only $(call quoted,ONLY))

bench-peers: install ## Measure other systems of jobs beside ours, 1 h; ONLY=rates,kill; JSON=FILE (python -m bench.peers -h)
	$(VENV) -m bench.peers $(if $(call typed,ONLY),--only $(call quoted,ONLY)) $(if $(call typed,JSON),--json $(call quoted,JSON))

findings: ## Try again what surprised us in other people's libraries (findings/README.md); no workflow does
	@failed=; for script in findings/*.sh; do \
		[ -e "$$script" ] || continue; \
		echo "=== $$script"; sh "$$script" || failed="$$failed $$script"; \
	done; [ -z "$$failed" ] || { echo "No longer as described:$$failed"; exit 1; }

##@ Keep

format: install ## Format, and mend what the linter can
	$(RUN) ruff check --fix-only --quiet
	$(RUN) ruff format

lock: install ## Add what is newly declared to the requirements.lock files; UNTIL=2026-12-01 moves all to that day
	$(VENV) scripts/lock.py $(if $(call typed,UNTIL),--until $(call quoted,UNTIL))

public-api: install ## Write anew what each package offers to others (packages/*/API.txt)
	@$(VENV) scripts/public_api.py

client: install ## Write clients of the API to dist/client: a Python package, and where Node is types for TypeScript
	@$(VENV) scripts/client.py

openapi: install ## Write anew what the API says of itself (packages/api/openapi.json)
	@$(VENV) scripts/openapi.py

release: install ## Plan a release: make release PACKAGE=db BUMP=minor; YES=1 makes its commits, tag and wheel
	@$(VENV) scripts/release.py $(call listed,PACKAGE,$(PACKAGES)) $(call listed,BUMP,patch minor major) $(if $(call on,YES),--yes)

reference: install ## Write docs/reference/configuration.md and tables.md anew, from the settings and the models
	@$(VENV) scripts/reference.py && $(VENV) scripts/tables.py

screenshots: install ## Take the pictures of the console in docs/images anew, of a system with an hour of jobs
	$(RUN) tests.e2e.console.screenshots

docs: install ## Build the site of the pages, with search, in dist/site; a link that leads nowhere is an error
	@$(VENV) scripts/site_pages.py
	$(UV) run --quiet --isolated --only-group docs zensical build --strict --config-file mkdocs.yml

clean: ## Remove what was installed and built; the development data stays (make dev RESET=1 empties it)
	rm -rf .venv 2>/dev/null || find .venv -mindepth 1 -delete  # a mount can only be emptied
	rm -rf .uv dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find packages migrations scripts tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
