"""`main`: the whole chain on the embedded default, offline, in minutes."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from skillneurons.commands.lifecycle import Command, Connect, EntryPoint, Outcome, Plan
from skillneurons.data.tasks import load_task
from skillneurons.demo.config import MainConfig
from skillneurons.discover.command import COMMAND as DISCOVER
from skillneurons.errors import InputError
from skillneurons.robustness.command import COMMAND as ROBUSTNESS
from skillneurons.suppress.command import COMMAND as SUPPRESS
from skillneurons.tracking.runs import Run, Tracking
from skillneurons.tune.command import COMMAND as TUNE
from skillneurons.tune.plan import TunePlan

# enough to tell skill from chance, small enough for minutes on two cores; each stage by itself has more
BASELINE_ROWS, COUNTED_ROWS, TEST_ROWS = 1_000, 1_000, 300
RATES = (0, 1, 5, 15)
ATTACKED_ROWS, ATTACKED_RATES = 240, (5,)


class Main(EntryPoint[TunePlan]):
    """What `main` brings: the commands of the chain as children of one run."""

    name, config = "main", MainConfig

    def plan(self, given: Mapping[str, Any], base: Mapping[str, Any] | None, connect: Connect) -> TunePlan:
        asked = {key: value for key, value in given.items() if value != ""}
        # an older run's configuration is a whole one
        return TUNE.plan(asked if base else {**MainConfig.DEFAULTS, **asked}, base, connect)

    def dry_run(self, plan: TunePlan) -> str:
        after = "then discover, suppress and robustness on its prompts, about twice as long again"
        return f"{TUNE.dry_run(plan)}\n{after}"

    def carry_out(self, plan: TunePlan, given: Mapping[str, str], tracking: Tracking, console: Console) -> int:
        with tracking.run(f"main {plan.title}", {"skillneurons.stage": "main"}, adopt=True) as parent:
            said = [outcome.report.finding() for outcome in _chain(plan, tracking, console, parent)]
            parent.note("\n\n".join(said))
        return 0


def _chain(plan: TunePlan, tracking: Tracking, console: Console, parent: Run) -> Iterator[Outcome[Any]]:
    def do(number: int, text: str, command: Command[Any, Any], checked: Plan) -> Outcome[Any]:
        console.print(f"\n{number}. {command.name}: {text}", highlight=False, style="bold")
        outcome = command.execute(checked, tracking, console, parent)
        command.announce(outcome, tracking, console)
        return outcome

    def asked(command: Command[Any, Any], **more: Any) -> Plan:
        checked: Plan = command.plan({}, {**shared, **more}, lambda: tracking)
        return checked

    c = plan.config
    tuned = do(1, "one soft prompt a seed, the backbone frozen", TUNE, plan)
    yield tuned
    same = {name: getattr(c, name) for name in ("data_dir", "rerun", "threads", "device")}
    shared = {"prompts": f"runs:/{tuned.run_id}", **same}
    # without the position where the label is read, so that families can be compared
    rows = {"max_train_rows": BASELINE_ROWS, "max_dev_rows": COUNTED_ROWS, "site": "prompt-body", "random_prompts": 1}
    checked = asked(DISCOVER, task=c.task, **rows)
    found = do(2, "which neurons tell the label at the prompt's positions", DISCOVER, checked)
    yield found
    shared["neurons"] = f"runs:/{found.run_id}"
    sweep = asked(SUPPRESS, task=c.task, rates=RATES, max_eval_rows=TEST_ROWS)
    yield do(3, "does the model need them", SUPPRESS, sweep)
    name = f"adv_{plan.task.name}"
    try:
        load_task(name)
    except InputError:
        console.print(f"there is no task {name}: nothing to attack with", highlight=False)
        return
    rows = {"rates": ATTACKED_RATES, "max_eval_rows": ATTACKED_ROWS}
    attack = asked(ROBUSTNESS, adversarial=name, **rows)
    yield do(4, "what attacks cost, and whether they work through these neurons", ROBUSTNESS, attack)


COMMAND = Main()
