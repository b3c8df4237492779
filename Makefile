# `make run` is all a newcomer needs; every target sets up what it needs and is quick the second time.

PYTHON ?= python3
VENV := .venv/bin
OFFSCREEN := QT_QPA_PLATFORM=offscreen
# Where packages are made; what lies there makes the next time quick.
BUILD ?= build/package

.PHONY: help run test check format screenshots bench bench-native bench-quality bench-rivals record-upstream bundle package package-test clean

help:
	@echo "make run [MODEL=path]    open Snug (sets everything up the first time)"
	@echo "    [BACKEND=vulkan|cuda]  with llama.cpp compiled for the graphics card too"
	@echo "make test                run the tests"
	@echo "make check               lint, format and types"
	@echo "make format              format, and mend what the linter can mend"
	@echo "make screenshots         a picture of every page, in screenshots/"
	@echo "make bench [MODEL=path]  speed of a model: prompt processing, token generation"
	@echo "make bench-native        speed of the native kernels against numpy"
	@echo "make bench-quality       Snug's files against llama-quantize's (LLAMA_TOOLS=folder)"
	@echo "make bench-rivals        against other quantizers ([PYTHON_OF_RIVALS=path], else gigabytes)"
	@echo "make record-upstream     record what transformers and llama.cpp's converter make of tiny models"
	@echo "make bundle              the folder that packages carry, in build/package/dist"
	@echo "make package             an installer of it for this system"
	@echo "make package-test        try these packages as their users do (as root, on Debian)"
	@echo "make clean               remove all that was installed and built"

run:
	@$(PYTHON) packaging/setup.py run
	@$(VENV)/python -m app $(if $(MODEL),"$(MODEL)")

test:
	@$(OFFSCREEN) $(PYTHON) packaging/setup.py test
	$(OFFSCREEN) $(VENV)/python -m pytest $(ARGS)

check:
	@$(PYTHON) packaging/setup.py check
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy --strict app engine tests packaging native

format:
	@$(PYTHON) packaging/setup.py check
	$(VENV)/ruff check --fix
	$(VENV)/ruff format

screenshots:
	@$(OFFSCREEN) $(PYTHON) packaging/setup.py test
	$(OFFSCREEN) $(VENV)/python -m app.screenshots screenshots

bench:
	@$(PYTHON) packaging/setup.py test
	$(VENV)/python -m engine bench "$(or $(MODEL),resources/starter/starter.gguf)"

bench-native:
	@$(PYTHON) packaging/setup.py test
	$(VENV)/python tests/bench/bench_kl.py
	$(VENV)/python tests/bench/bench_packed.py
	$(VENV)/python tests/bench/bench_rounding.py

bench-quality:
	@$(PYTHON) packaging/setup.py test
	$(VENV)/python tests/bench/bench_quality.py $(ARGS)

bench-rivals:
	@$(PYTHON) packaging/setup.py test
	$(VENV)/python tests/bench/bench_rivals.py $(if $(PYTHON_OF_RIVALS),--python "$(PYTHON_OF_RIVALS)") $(ARGS)

record-upstream:
	@$(PYTHON) packaging/setup.py test
	$(VENV)/python -m tests.record $(ARGS)

bundle:
	@$(PYTHON) packaging/setup.py check
	$(VENV)/python packaging/bundle.py $(BUILD) $(ARGS)

package: bundle
	$(VENV)/python packaging/linux/package.py $(BUILD)

package-test:
	$(VENV)/python -m pytest packaging/trials --timeout 900 -o faulthandler_timeout=0 --build $(BUILD) $(ARGS)

clean:
	rm -rf .venv build screenshots .hypothesis .mypy_cache .pytest_cache .ruff_cache
