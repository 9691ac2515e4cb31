"""A tiny engine: a script called vllm that prints its arguments and answers /health, slowly."""

import sys
from pathlib import Path

SCRIPT = '''#!{python}
"""Stands in for `vllm`: it has a child of its own, as the real one has."""
import http.server, os, subprocess, sys, time

print("arguments:", sys.argv[1:], flush=True)
if os.environ.get("FAKE_ENGINE_FAILS"):
    print("out of memory, says the fake engine", flush=True)
    sys.exit(3)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if "FAKE_ENGINE_CHILD" in os.environ:
    with open(os.environ["FAKE_ENGINE_CHILD"], "w") as file:
        file.write(str(child.pid))
port = int(sys.argv[sys.argv.index("--port") + 1])


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


time.sleep(0.5)
print("Application startup complete.", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
'''


def install_engine(folder: Path) -> None:
    """Put it into a folder that is to be on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "vllm"
    script.write_text(SCRIPT.replace("{python}", sys.executable))
    script.chmod(0o755)
