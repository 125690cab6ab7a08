# Every target makes its own virtual environment first; PYTHON names the interpreter to use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MYSQL_PORT ?= 33061
MYSQL_TOOL := $(wildcard ../shared/tools/mysql.sh)
CONTAINERS_TOOL := $(wildcard ../shared/tools/containers.sh)
TESTS ?= tests

.PHONY: demo readme test test-numerical test-mysql test-containers digests lint
.PHONY: reliability reliability-embedded reliability-mysql reliability-s3 soak

demo: $(STAMP)
	$(BIN)/inception demo

# README's picture and table, of the run that lies in demo/
readme: $(STAMP)
	$(BIN)/python -m workers.demo.readme demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(TESTS) -m "not containers and not reliability"

# Libraries choose their kernels by the processor: on x86-64 the plainest of each, with one thread,
# then torch's for AVX2 where there is AVX2, with two. arm64 has other names and keeps its own.
NUMERICAL := tests/pipeline -m numerical
ifeq ($(shell uname -m),x86_64)
PLAIN := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
	OPENBLAS_CORETYPE=Nehalem
AVX2 := $(if $(shell grep -om1 avx2 /proc/cpuinfo 2>/dev/null),ATEN_CPU_CAPABILITY=avx2)
else
PLAIN := ATEN_CPU_CAPABILITY=default
endif

test-numerical: $(STAMP)
	status=0; \
	$(PLAIN) OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(NUMERICAL) || status=$$?; \
	$(AVX2) OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive $(BIN)/pytest $(NUMERICAL) || status=$$?; exit $$status

# numbers of the results of new methods and revisions, beside their hashes
digests: $(STAMP)
	$(BIN)/python tests/pipeline/digests/digest_store.py

# the same table tests on a real MySQL: DJ_HOST's, or one unpacked into .cache without root
test-mysql: $(STAMP)
ifdef DJ_HOST
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(TESTS) -m "tables and not reliability"
else ifneq ($(MYSQL_TOOL),)
	mkdir -p .cache
	bash $(MYSQL_TOOL) up $(CURDIR)/.cache/mysql $(MYSQL_PORT)
	status=0; DJ_HOST=127.0.0.1 DJ_PORT=$(MYSQL_PORT) DJ_USER=root DJ_PASS= DJ_BACKEND=mysql \
	DJ_USE_TLS=false OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(TESTS) \
	-m "tables and not reliability" || status=$$?; \
	bash $(MYSQL_TOOL) down $(CURDIR)/.cache/mysql; exit $$status
else
	@echo "test-mysql needs a server: set DJ_HOST, DJ_PORT, DJ_USER and DJ_PASS" >&2; exit 2
endif

test-containers: $(STAMP)
ifneq ($(CONTAINERS_TOOL),)
	docker info >/dev/null 2>&1 || bash $(CONTAINERS_TOOL) up
endif
	$(BIN)/pytest $(TESTS) -m containers

# everything of tests/reliability at full size, on both databases; a quarter of it is in `make test`
reliability: reliability-embedded reliability-mysql

reliability-embedded: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/reliability -m reliability

# a quarter of it with the store in the bucket of a local S3 server
reliability-s3: $(STAMP)
	RELIABILITY_STORE=s3 OMP_NUM_THREADS=1 $(BIN)/pytest tests/reliability -m "tables and not reliability"

# a server on this machine that may be killed: DJ_HOST's, or one of its own
reliability-mysql: $(STAMP)
ifdef DJ_HOST
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/reliability -m reliability
else ifneq ($(MYSQL_TOOL),)
	mkdir -p .cache
	bash $(MYSQL_TOOL) up $(CURDIR)/.cache/mysql $(MYSQL_PORT)
	status=0; DJ_HOST=127.0.0.1 DJ_PORT=$(MYSQL_PORT) DJ_USER=root DJ_PASS= DJ_BACKEND=mysql \
	DJ_USE_TLS=false OMP_NUM_THREADS=1 $(BIN)/pytest tests/reliability \
	-m reliability || status=$$?; bash $(MYSQL_TOOL) down $(CURDIR)/.cache/mysql; exit $$status
else
	@echo "reliability-mysql needs a server: set DJ_HOST, DJ_PORT, DJ_USER, DJ_PASS" >&2; exit 2
endif

# hours: jobs arrive while workers are killed, and nothing may grow
SOAK_MINUTES ?= 120
soak: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/reliability/harness/soak.py --minutes $(SOAK_MINUTES) \
	--home .cache/soak

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/type_errors.py

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "needs Python >= 3.11; name one with PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	{ echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
