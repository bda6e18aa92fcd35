"""Makes the README's pictures of the MLflow UI from a tracking database.

    python docs/screenshots.py sqlite:///mlflow.db docs/pictures

Beside docs/, since pictures are all it makes; the tests of the UI (tests/browser/) use its browser and server. Needs
Chromium and its driver (Debian: chromium, chromium-driver).
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow import MlflowClient
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from skillneurons.tracking import run_list_view

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
PATIENCE = 60  # seconds until a page must have what is asked of it, on a busy machine
# MLflow opens an assistant beside the first page, and its menu for chat applications
SETTLED = {
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.workflowType_v1": '"machine_learning"',
}
ASSISTANT = "//button[contains(., 'MLflow Assistant')]"  # floats over the page


class Browser:
    """Headless Chromium on one server; pages are waited for by the words that they must show."""

    def __init__(self, driver: webdriver.Chrome, server: str) -> None:
        self.driver, self.server = driver, server

    def open(self, path: str, *words: str) -> str:
        """Go to a page of the server; returns its text once it has all the words."""
        self.driver.get("about:blank")  # a change of the fragment alone would load nothing
        self.driver.get(f"{self.server}/{path}")
        return self.wait(*words)

    def wait(self, *words: str) -> str:
        """The page's text, once it has all the words."""
        for word in words:
            self.until(lambda word=word: word in self.text, word)
        return self.text

    def until(self, ready: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            assert time.monotonic() < deadline, f"the page never had {what}:\n{self.text}"
            time.sleep(0.2)

    @property
    def text(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    def element(self, xpath: str) -> WebElement:
        """The first element of an XPath, once it is there."""
        self.until(lambda: self.driver.find_elements(By.XPATH, xpath), xpath)
        return self.driver.find_elements(By.XPATH, xpath)[0]

    def click(self, xpath: str) -> None:
        self.driver.execute_script("arguments[0].click()", self.element(xpath))

    def follow(self, xpath: str, *words: str) -> str:
        """Go where a link leads. By its address: a click is lost when the page redraws the link under it."""
        return self.open(str(self.element(xpath).get_attribute("href")).removeprefix(f"{self.server}/"), *words)

    def picture(self, file: Path, height: int = 800, width: int = 1400) -> None:
        self.driver.set_window_size(width, height + (self.driver.get_window_size()["height"] - self._inner_height()))
        _calm(lambda: self.text)
        for button in self.driver.find_elements(By.XPATH, ASSISTANT):
            self.driver.execute_script("arguments[0].style.visibility = 'hidden'", button)
        self.driver.save_screenshot(str(file))

    def _inner_height(self) -> int:
        return int(self.driver.execute_script("return window.innerHeight"))


@contextlib.contextmanager
def browser(server: str) -> Iterator[Browser]:
    profile = tempfile.mkdtemp(prefix="skillneurons-chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1400,900", "--lang=en"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get(f"{server}/health")
        for key, value in SETTLED.items():
            driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)
        yield Browser(driver, server)
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


@contextlib.contextmanager
def ui(database: str) -> Iterator[str]:
    """The MLflow UI on a tracking database, on a free port of the loopback; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ENABLE_AI_GATEWAY": "false"}
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+b") as log:
        env = {**os.environ, **quiet, "MLFLOW_DISABLE_TELEMETRY": "true"}
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + PATIENCE
            while not _answers(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, Path(log.name).read_text()
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def run_list(experiment_id: str) -> str:
    """The page of all runs, in the view with the accuracies."""
    return run_list_view.page("", experiment_id).lstrip("/")


def expander(run_name: str) -> str:
    """XPath of what opens a run of the list to its children."""
    return f"//div[@col-id='attributes.`Run Name`' and contains(., '{run_name}')]//button"


def compare(experiment_id: str, run_ids: list[str]) -> str:
    return f"#/compare-runs?runs={json.dumps(run_ids)}&experiments={json.dumps([experiment_id])}"


def run_page(experiment_id: str, run_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs/{run_id}"


def version_page(name: str, version: str) -> str:
    return f"#/models/{name}/versions/{version}"


def main(database: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(database)
    studies = _runs(client, "search")
    if not studies:
        sys.exit(f"screenshots: the database must hold a finished search; {database} holds none. Run one first.")
    study = studies[0]
    experiment = study.info.experiment_id
    trials = [run.info.run_id for run in _runs(client, "search trial")]
    winner = client.get_run(study.data.tags["skillneurons.children"].partition(",")[0])
    name, _, version = winner.data.tags["skillneurons.registered"].rpartition("/")
    with ui(database) as server, browser(server) as page:
        page.open(run_list(experiment), study.info.run_name)
        page.click("//button[@aria-label='Hide banner']")
        page.click(expander(study.info.run_name))
        page.wait("trial 1")
        page.picture(folder / "runs.png")
        page.open(compare(experiment, trials[:10]), "Comparing")
        page.picture(folder / "compare.png", 900)
        page.open(run_page(experiment, study.info.run_id), study.info.run_name)
        page.picture(folder / "study.png", 900)
        page.open(version_page(name, version), name)
        page.picture(folder / "prompt.png", 900)


def _runs(client: MlflowClient, stage: str) -> list:
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    where = f"tags.`skillneurons.stage` = '{stage}' and attributes.status = 'FINISHED'"
    return list(client.search_runs(everywhere, where))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _calm(look: Callable[[], str], seconds: float = 1.5) -> None:
    """Wait until what is looked at has not changed for so long."""
    last, since = look(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.2)
        if (now := look()) != last:
            last, since = now, time.monotonic()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("screenshots: a tracking database and a folder must be given; see the first lines of this file.")
    main(sys.argv[1], Path(sys.argv[2]))
