"""Functions as Locust users: `locust -f loadtest/locustfile.py`, see loadtest/README.md."""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import psycopg
from flask import request  # type: ignore[import-not-found, unused-ignore]
from locust import LoadTestShape, User, constant_pacing, events, task
from locust.env import Environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loadtest.lab import behaviours
from loadtest.lab.functions import GaveUp, Terms
from loadtest.lab.histogram import Histogram
from loadtest.lab.shapes import SHAPES, planned
from loadtest.lab.tally import BEGUN, Generator, Tally
from loadtest.lab.workloads import SETUP, SHARES

_LAG_EVERY = 0.05
_DEFAULT_SECONDS = 60
_numbers = itertools.count(1)
_run = secrets.token_hex(3)


def _known_workloads(text: str) -> str:
    """The same text. Raises ArgumentTypeError when it names what is no workload."""
    for name in text.split(","):
        if name not in SHARES:
            raise ArgumentTypeError(f"{name!r} is no workload: some of {', '.join(SHARES)}")
    return text


@events.init_command_line_parser.add_listener
def _arguments(parser: ArgumentParser) -> None:
    add: Any = parser.add_argument
    add(
        "--dsn",
        env_var="LAB_DSN",
        default="",
        include_in_web_ui=False,
        help="where functions connect: postgresql://user:password@host:port/database; "
        "rather by the environment variable LAB_DSN, which the process list does not show",
    )
    add("--shape", env_var="LAB_SHAPE", choices=[*SHAPES], default="steady")
    add("--pace", type=float, default=1.0, help="seconds from one invocation to the next")
    add("--freeze", type=float, default=120.0, help="seconds that frozen functions are frozen")
    add("--workloads", type=_known_workloads, default=",".join(SHARES),
        help="which ones, separated by commas")  # fmt: skip
    add(
        "--session-state",
        choices=["yes", "no"],
        default="yes",
        help="no: functions use SET LOCAL alone, for poolers that share sessions",
    )
    add("--generators", type=int, default=1, include_in_web_ui=False,
        help="how many of these share the machine: each starts its functions slower")  # fmt: skip
    add("--tally-dir", default="", include_in_web_ui=False, help="write tally-PID.json there")
    add("--prepared", action="store_true", include_in_web_ui=False,
        help="the lab's tables are there already")  # fmt: skip


class _Load:
    """What this process counts, and how well it keeps up."""

    def __init__(self, environment: Environment) -> None:
        options: Any = environment.parsed_options
        self.tally = Tally(began=time.time())
        self.terms = Terms(options.dsn, options.session_state == "yes", self.tally)
        self.pace = constant_pacing(options.pace)
        self.freeze_seconds = float(options.freeze)
        self.workloads = options.workloads.split(",")
        self._lag = Histogram()
        self._began = (time.monotonic(), time.process_time())
        gevent.spawn(self._measure_lag)

    def _measure_lag(self) -> None:
        while True:
            due = time.monotonic() + _LAG_EVERY
            gevent.sleep(_LAG_EVERY)
            self._lag.add((time.monotonic() - due) * 1000)

    def pick(self) -> str:
        """A workload, by its share."""
        shares = [SHARES[name] for name in self.workloads]
        return str(random.choices(self.workloads, shares)[0])

    def write(self, folder: Path, ended: bool) -> None:
        """The tally so far, in a file that is complete at any moment."""
        elapsed = time.monotonic() - self._began[0]
        share = (time.process_time() - self._began[1]) / elapsed
        late = self._lag.percentile(99) or 0.0
        self.tally.generators = [Generator(round(share, 3), round(late, 1), ended)]
        file = folder / f"tally-{os.getpid()}.json"
        part = file.with_suffix(".part")
        part.write_text(json.dumps(self.tally.to_json()))
        part.replace(file)


_loads: dict[Environment, _Load] = {}


@events.init.add_listener
def _check_form(web_ui: Any = None, **_: Any) -> None:
    """The form of the web page is checked as the command line is."""
    if web_ui:
        web_ui.app.before_request(_refused)


def _refused() -> dict[str, Any] | None:
    """What the page shows instead of a start; None lets the request pass."""
    if request.path.rpartition("/")[2] != "swarm" or "workloads" not in request.form:
        return None
    try:
        _known_workloads(request.form["workloads"])
    except ArgumentTypeError as error:
        return {"success": False, "message": str(error)}
    return None


@events.test_start.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    options: Any = environment.parsed_options
    if not options.dsn:
        sys.exit("no DSN: set LAB_DSN=postgresql://user:password@host:port/database")
    if not options.prepared:
        try:
            with psycopg.connect(options.dsn) as connection:
                connection.execute(SETUP)
        except psycopg.Error as error:
            sys.exit(f"the lab's tables cannot be made: {error}".strip())
    _loads[environment] = _Load(environment)
    if options.tally_dir:
        (Path(options.tally_dir) / BEGUN).touch()


@events.test_stopping.add_listener
def _keep(environment: Environment, **_: Any) -> None:
    """Before functions are stopped, which may take longer than anybody waits."""
    _write(environment, ended=False)


@events.quit.add_listener
def _report(**_: Any) -> None:
    for environment, load in _loads.items():
        _write(environment, ended=True)
        for words in load.tally.violations:
            print(f"cross-talk: {words}", file=sys.stderr)


def _write(environment: Environment, ended: bool) -> None:
    options: Any = environment.parsed_options
    if options.tally_dir and environment in _loads:
        _loads[environment].write(Path(options.tally_dir), ended)


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    """Cross-talk fails the run, whatever else went well."""
    load = _loads.get(environment)
    if load and load.tally.violation_count:
        environment.process_exit_code = 1


class _FunctionUser(User):  # type: ignore[misc, unused-ignore]
    abstract = True
    behaviour: type[behaviours.Behaviour]

    def on_start(self) -> None:
        self._load = _loads[self.environment]
        name = f"f-{_run}-{os.getpid()}-{next(_numbers)}"
        self._life = self.behaviour(name, self._load.terms, self._load.freeze_seconds)

    def on_stop(self) -> None:
        self._life.end()

    def wait_time(self) -> float:
        return float(self._load.pace(self))

    @task
    def invoke(self) -> None:
        workload = self._load.pick()
        try:
            milliseconds = self._life.invoke(workload)
        except GaveUp as failure:
            self._tell(workload, 0.0, failure)
            return
        self._tell(workload, milliseconds, None)
        self._life.between()

    def _tell(self, workload: str, milliseconds: float, failure: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type=self.behaviour.name,
            name=workload,
            response_time=milliseconds,
            response_length=0,
            exception=failure,
            context={},
        )


class ColdFunction(_FunctionUser):
    weight = 35
    behaviour = behaviours.Cold


class WarmFunction(_FunctionUser):
    weight = 40
    behaviour = behaviours.Warm


class FrozenFunction(_FunctionUser):
    weight = 10
    behaviour = behaviours.Frozen


class KilledFunction(_FunctionUser):
    weight = 4
    behaviour = behaviours.Killed


class PooledFunction(_FunctionUser):
    weight = 10
    behaviour = behaviours.Pooled


class LeakyFunction(_FunctionUser):
    weight = 1
    behaviour = behaviours.Leaky


class FunctionShape(LoadTestShape):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """--shape, over -u functions and -t seconds."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        most = options.num_users or 1
        seconds = float(options.run_time or _DEFAULT_SECONDS)
        elapsed = time.perf_counter() - self.start_time
        return planned(options.shape, most, seconds, elapsed, options.generators)
