"""`main`: the whole chain on the embedded default, offline, in minutes."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from skillneurons import discover_plan, stage_discover, stage_robustness, stage_suppress, stage_tune
from skillneurons.config import DiscoverConfig, MainConfig, RobustnessConfig, SuppressConfig, parse
from skillneurons.errors import InputError
from skillneurons.measuring import announce
from skillneurons.tasks import load_task
from skillneurons.tracking import Run, Tracking
from skillneurons.tune_plan import TunePlan

# enough to tell skill from chance, small enough for minutes on two cores; each stage by itself has more
BASELINE_ROWS, COUNTED_ROWS, TEST_ROWS = 1_000, 1_000, 400
RATES, CONTROLS = (0, 1, 5, 15), 5
ATTACKED_ROWS, ATTACKED_RATES = 240, (5, 15)


def run(given: Mapping[str, str], console: Console) -> int:
    """Carry out `main`; returns the exit code."""
    asked = {key: value for key, value in given.items() if value != ""}
    if "config" not in asked:  # an older run's configuration is a whole one
        asked = {**MainConfig.DEFAULTS, **asked}
    tracking = Tracking.connect() if asked.get("config") or asked.get("init_prompt") else None
    plan = stage_tune.prepare(asked, tracking)
    if plan.config.dry_run:
        console.print(stage_tune.dry_run(plan), highlight=False, markup=False, soft_wrap=True)
        console.print(
            "then discover, suppress and robustness on its prompts, about twice as long again", highlight=False
        )
        return 0
    tracking = tracking or Tracking.connect()
    with tracking.run(f"main {plan.title}", {"skillneurons.stage": "main"}, adopt=True) as parent:
        _heading(console, 1, "tune: one soft prompt a seed, the backbone frozen")
        tuned = stage_tune.execute(plan, tracking, console, parent)
        stage_tune.announce(tuned, tracking, console)
        _heading(console, 2, "discover: which neurons tell the label at the prompt's positions")
        neurons = _discover(plan, tuned.run_id, tracking, console, parent)
        _heading(console, 3, "suppress: does the model need them")
        needed = _suppress(plan, tuned.run_id, neurons, tracking, console, parent)
        attacked = _robustness(plan, tuned.run_id, neurons, tracking, console, parent)
        parent.note("\n\n".join([tuned.summary.finding(), _said(tracking, neurons), needed, *attacked]))
    return 0


def _discover(plan: TunePlan, tuned: str, tracking: Tracking, console: Console, parent: Run) -> str:
    # without the position where the label is read, so that families can be compared
    rows = {"max_train_rows": BASELINE_ROWS, "max_dev_rows": COUNTED_ROWS, "site": "prompt-body"}
    config = parse(DiscoverConfig, {}, {**_shared(plan, tuned), **rows})
    run_id, _ = stage_discover.execute(discover_plan.plan(config, tracking), tracking, console, parent)
    stage_discover.show(run_id, tracking, console)
    return run_id


def _suppress(plan: TunePlan, tuned: str, neurons: str, tracking: Tracking, console: Console, parent: Run) -> str:
    sweep = {"neurons": f"runs:/{neurons}", "rates": RATES, "controls": CONTROLS, "max_eval_rows": TEST_ROWS}
    config = parse(SuppressConfig, {}, {**_shared(plan, tuned), **sweep})
    outcome = stage_suppress.execute(stage_suppress.prepare(config, tracking), tracking, console, parent)
    announce(outcome, tracking, console, stage_suppress.FIGURE)
    return outcome.finding


def _robustness(
    plan: TunePlan, tuned: str, neurons: str, tracking: Tracking, console: Console, parent: Run
) -> list[str]:
    """On the task's adversarial version; nothing where it has none."""
    _heading(console, 4, "robustness: what attacks cost, and whether they work through these neurons")
    name = f"adv_{plan.task.name}"
    try:
        load_task(name)
    except InputError:
        console.print(f"there is no task {name}: nothing to attack with", highlight=False)
        return []
    asked = {
        "neurons": f"runs:/{neurons}",
        "adversarial": name,
        "rates": ATTACKED_RATES,
        "controls": CONTROLS,
        "max_eval_rows": ATTACKED_ROWS,
    }
    shared = {key: value for key, value in _shared(plan, tuned).items() if key != "task"}
    config = parse(RobustnessConfig, {}, {**shared, **asked})
    outcome = stage_robustness.execute(stage_robustness.prepare(config, tracking), tracking, console, parent)
    announce(outcome, tracking, console, stage_robustness.FIGURES)
    return [outcome.finding]


def _shared(plan: TunePlan, tuned: str) -> dict[str, Any]:
    c = plan.config
    same = {name: getattr(c, name) for name in ("data_dir", "task", "rerun", "threads", "device")}
    return {"prompts": f"runs:/{tuned}", **same}


def _said(tracking: Tracking, run_id: str) -> str:
    return tracking.tag(run_id, "mlflow.note.content") or ""


def _heading(console: Console, number: int, text: str) -> None:
    console.print(f"\n{number}. {text}", highlight=False, style="bold")
