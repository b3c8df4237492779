"""A worker of the wrong sort, for tests of the client: `python fake_worker.py MODE`.

It speaks the real protocol up to the point where MODE says it goes wrong.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def say(event: dict[str, object]) -> None:
    print(json.dumps(event), flush=True)


def say_loaded(request: dict[str, Any], n_ctx: int) -> None:
    names = dict.fromkeys(("path", "name", "architecture", "type", "device"), "fake")
    figures = dict.fromkeys(("n_params", "size_bytes", "n_ctx_train", "n_vocab", "n_threads"), 1)
    result = {**names, **figures, "n_ctx": n_ctx, "has_chat_template": True, "load_seconds": 0.0}
    say({"type": "result", "id": request["id"], "result": result})


def main(mode: str) -> None:
    say({"type": "ready", "protocol": 2, "pid": os.getpid()})
    for line in sys.stdin:
        request = json.loads(line)
        step = {"type": "piece", "text": "a", "n_tokens": 1}
        say({"type": "step", "id": request["id"], "step": step})
        if mode == "garbage":
            print("Segmentation fault in your dreams", flush=True)
            time.sleep(60)
        elif mode == "abort":
            os.abort()
        elif mode == "kill":
            os.kill(os.getpid(), 9)
        elif mode == "stuck" and request["type"] == "cancel":
            os._exit(70)
        elif mode == "stuck" and request["job"]["type"] == "Load":
            say_loaded(request, 512)
        elif mode == "little-memory" and 0 < request["job"]["settings"]["n_ctx"] <= 1024:
            say_loaded(request, request["job"]["settings"]["n_ctx"])
        elif mode in ("out-of-memory", "little-memory"):
            print("ggml_backend_cpu: failed to allocate buffer of size 99", file=sys.stderr)
            os.abort()
        elif mode == "deaf":
            break
    if mode == "deaf":
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
