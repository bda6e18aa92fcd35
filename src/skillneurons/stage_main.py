"""`main`: the whole chain on the embedded default, offline, in minutes."""

from collections.abc import Mapping

from rich.console import Console

from skillneurons import demo_model
from skillneurons.checkpoints import state_dir
from skillneurons.data import load_splits
from skillneurons.stage_tune import announce, execute, prepare
from skillneurons.tasks import load_task
from skillneurons.tracking import Tracking

DEFAULTS = {
    "model": "tiny-random",
    "task": "film_notes",
    "seeds": "0,1,2",
    "prompt_length": "10",
    "learning_rate": "0.02",
    "batch_size": "16",
    "max_steps": "300",
    "eval_every": "50",
    "max_length": "48",
}
CAVEAT = (
    "The default backbone is tiny and randomly initialised: it has learned nothing. This run shows the "
    "chain at work; its accuracy says nothing about language models. Pass model=… for a real one."
)


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `main`; returns the exit code."""
    asked = {**DEFAULTS, **{key: value for key, value in given.items() if value != ""}}
    tiny = asked["model"] == DEFAULTS["model"]
    if tiny:
        asked["model"] = _tiny_model(asked["task"])
        console.print(CAVEAT, highlight=False, soft_wrap=True)
    plan = prepare(asked, None)
    tracking = Tracking.connect()
    with tracking.run(f"main {plan.title}", {"skillneurons.stage": "main"}, adopt=True) as parent:
        outcome = execute(plan, tracking, console, parent)
        finding = outcome.summary.finding()
        parent.note(f"{CAVEAT}\n\n{finding}" if tiny else finding)
    return announce(outcome, tracking, console)


def _tiny_model(task_name: str) -> str:
    folder = state_dir() / "models" / "tiny-random"
    if not (folder / "config.json").is_file():
        task = load_task(task_name)
        splits = load_splits(task)
        texts = [text for split in splits.values() for row in split.rows for text in row]
        words = [str(word) for word in task.words("masked_lm")]
        demo_model.build(folder, texts, words)
    return str(folder)
