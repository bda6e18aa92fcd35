"""`make ui`: MLflow's server on this machine, and the page to begin with, which is not MLflow's own first page."""

import os
import subprocess
import sys
import time
import urllib.request
import webbrowser

from skillneurons.tracking import run_list_view
from skillneurons.tracking.runs import DEFAULT_URI, Tracking

PATIENCE = 60.0  # seconds until the server answers


def main() -> int:
    """Serve the tracking store, print the address of the list of runs, and open it where there is a display."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    port = os.environ.get("PORT", "5000")
    server = uri if uri.startswith("http") else f"http://127.0.0.1:{port}"
    link = run_list_view.page(server, Tracking.connect().experiment_id)
    if uri.startswith("http"):
        print(f"the list of runs: {link}", flush=True)
        return 0
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    process = subprocess.Popen(command)
    try:
        if _answers(server, process):
            hint = "MLflow's own first page is for chat applications; Ctrl-C ends this"
            print(f"\nthe list of runs: {link}\n({hint})\n", flush=True)
            if os.environ.get("DISPLAY") or sys.platform == "darwin":
                webbrowser.open_new_tab(link)
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        return process.wait()


def _answers(server: str, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{server}/health", timeout=5):
                return True
        except OSError:
            time.sleep(0.3)
    return False


if __name__ == "__main__":
    raise SystemExit(main())
