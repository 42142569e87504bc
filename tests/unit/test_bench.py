"""The bench measures what it says: its protocol, its arithmetic, its tables."""

from __future__ import annotations

import hmac
import json
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtest.bench import BenchError, pgbench, scan, scram
from loadtest.bench.__main__ import main
from loadtest.bench.cases import CASES, KIB, Case, Stand, Target, select, setters
from loadtest.bench.children import Child, server_bindir, version_tuple
from loadtest.bench.conversation import Conversation, Refused, message, query, startup
from loadtest.bench.pgbench import Reading
from loadtest.bench.probe import cpu_seconds, family, memory_kib
from loadtest.bench.proxies import Door, Site
from loadtest.bench.report import Report, Row
from loadtest.bench.samples import Sample, percentile
from loadtest.bench.visits import Address, Client, askers, newcomers, regulars, run, visitors
from proxy.demo.children import free_port
from proxy.demo.embedded import EmbeddedPostgres
from proxy.session.glance import glance

# RFC 7677, section 3. The user there is "user"; Postgres's clients leave it empty.
SALT = b"W22ZaJ0SNY7soEsUEjb6gQ=="
SALT_BYTES = b64decode(SALT)
AUTH_OK = message(b"R", b"\0\0\0\0")
READY = message(b"Z", b"I")


def sample(cost: float, errors: int = 0) -> Sample:
    return Sample(cost, 30_000, 0.5, 1.5, errors, "53300 no more" if errors else "")


def case(target: Target | None = None, unit: str = "µs") -> Case:
    def unmeasured(_stand: Stand) -> Sample:
        raise AssertionError("a table measures nothing")

    return Case("some-16", "some, 16 clients", "transaction", unmeasured, target=target, unit=unit)


def test_scram_answers_only_challenges_to_its_own_nonce() -> None:
    login = scram.ScramLogin("pencil", nonce=b"rOprNGfwEbeRWgbNEkqO")
    assert login.first() == b"n,,n=,r=rOprNGfwEbeRWgbNEkqO"
    with pytest.raises(ValueError, match="nonce"):
        login.final(b"r=somebody-else,s=" + SALT + b",i=4096")


def test_scram_keys_are_those_of_the_rfc() -> None:
    """ServerSignature of RFC 7677's exchange, made with our ServerKey."""
    _, _, server_key = scram.keys("pencil", SALT_BYTES, 4096)
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    first = b"n=user,r=rOprNGfwEbeRWgbNEkqO"
    spoken = first + b",r=" + nonce + b",s=" + SALT + b",i=4096,c=biws,r=" + nonce
    signature = hmac.digest(server_key, spoken, "sha256")
    assert b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_scram_refuses_a_server_that_does_not_know_the_secret() -> None:
    login = scram.ScramLogin("pencil", nonce=b"abc")
    login.final(b"r=abcdef,s=" + SALT + b",i=4096")
    with pytest.raises(ValueError, match="does not know"):
        login.verify(b"v=AAAA")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_conversation_takes_answers_in_any_pieces(size: int) -> None:
    conversation = Conversation("secret")
    answer = AUTH_OK + message(b"S", b"a\0b\0") + message(b"K", b"\0" * 8) + READY
    for at in range(0, len(answer), size):
        assert not conversation.ready
        conversation.feed(answer[at : at + size])
    assert conversation.ready


def test_conversation_raises_the_servers_own_words() -> None:
    error = message(b"E", b"SFATAL\0C53300\0Mno more\0\0")
    with pytest.raises(Refused, match="53300 no more"):
        Conversation("secret").feed(error)


def test_messages_have_the_documented_shape() -> None:
    assert query("select 1") == b"Q\0\0\0\x0dselect 1\0"
    assert startup("u", "d") == b"\0\0\0\x1b\0\x03\0\0user\0u\0database\0d\0\0"


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    hba = ["host all all 127.0.0.0/8 scram-sha-256"]
    with EmbeddedPostgres(20, bindir=server_bindir(), hba=hba) as postgres:
        yield Address(postgres.port, "postgres", postgres.password, "postgres")


def test_visitors_log_in_ask_and_leave(address: Address) -> None:
    left = iter(range(40))
    tally = run(visitors(address, lambda: next(left, None) is not None), concurrency=8)
    assert tally.errors == []
    assert len(tally.seconds) == 40


def test_clients_that_are_refused_are_counted_with_their_reason(address: Address) -> None:
    stranger = Address(address.port, address.user, "wrong", address.database)
    clients = [Client(stranger) for _ in range(3)]
    tally = run(newcomers(clients), concurrency=3)
    assert [words[:5] for words in tally.errors] == ["28P01"] * 3
    assert all(client.fileno() == -1 for client in clients)


def test_a_client_stays_and_asks_again(address: Address) -> None:
    client = Client(address)
    assert run(newcomers([client]), 1).errors == []
    assert run(askers([client], "select 1/0"), 1).errors == ["22012 division by zero"]
    client.leave()


def test_clients_ask_again_each_with_parameters_of_its_own(address: Address) -> None:
    clients = [Client(address) for _ in range(3)]
    left = iter(range(40))
    tallies = [run(newcomers(clients), 3), run(setters(clients), 3)]
    tallies.append(run(regulars(clients, lambda: next(left, None) is not None), 3))
    shown = b"SELECT 1 / (current_setting('work_mem') = '4001kB')::int, 1 / (%s)::int"
    tags = b"current_setting('my.tenant') = 't1' AND current_setting('my.request') = 'r1'"
    tallies.append(run([(clients[1], clients[1].ask(query((shown % tags).decode())))], 1))
    for client in clients:
        client.leave()
    assert [tally.errors for tally in tallies] == [[]] * 4
    assert len(tallies[2].seconds) == 40


@pytest.mark.parametrize("cost", [scan.passed, scan.seen, scan.new])
def test_a_scan_costs_nanoseconds_and_its_texts_are_of_100_bytes(
    cost: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "RUNS", 1)
    assert 10 < cost() < 1_000_000
    assert len(scan.PLAIN) == len(scan.SETTING) == max(map(len, scan.CONCERNING)) == 100
    assert all(glance(bytearray(text), 0, len(text), False) for text in scan.CONCERNING)


def test_what_pgbouncer_does_not_do_is_measured_alone() -> None:
    assert [case.name for case in CASES if case.alone] == ["scan-passed", "scan-seen", "scan-new"]


def test_nobody_listening_is_an_error_and_not_a_hang() -> None:
    client = Client(Address(free_port(), "u", "p", "d"))
    assert len(run(newcomers([client]), 1).errors) == 1


def test_a_verifier_is_taken_by_postgres_as_the_password(address: Address) -> None:
    secret = scram.verifier("pass", SALT_BYTES)
    client = Client(address)
    run(newcomers([client]), 1)
    created = run(askers([client], f"create role made login password '{secret}'"), 1)
    client.leave()
    made = Client(Address(address.port, "made", "pass", "postgres"))
    assert created.errors + run(newcomers([made]), 1).errors == []
    made.leave()


@pytest.fixture
def busy_family() -> Iterator[int]:
    """A process that waits for its own child, which has used 0.2 s of CPU time."""
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint(1, flush=True)\ninput()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


def test_cpu_and_memory_are_those_of_the_whole_family(busy_family: int) -> None:
    parent, child = family(busy_family)
    assert cpu_seconds(parent) > cpu_seconds(child) >= 0.2
    whole, part = memory_kib(parent), memory_kib(child)
    assert whole["Rss"] > part["Rss"] >= part["Pss"] > 0


def test_a_run_counts_from_the_first_progress_line_to_the_last() -> None:
    readings = [Reading(10.0, 1.0, 90), Reading(11.0, 1.02, 1000), Reading(13.0, 1.06, 500)]
    output = "progress: 1.0 s\nnumber of failed transactions: 0 (0.000%)\n"
    result = pgbench.evaluate(readings, [1.0, 2.0, 3.0], output)
    assert result.cost == pytest.approx(0.06 / 2000 * 1e6)
    assert result.rate == pytest.approx(2000 / 3)
    assert (result.p50_ms, result.errors, result.first_error) == (2.0, 0, "")


def test_failed_transactions_and_lost_clients_are_errors() -> None:
    output = (
        "client 3 aborted in command 1 (SQL) of script 0; it was lost\n"
        "client 4 script 0 aborted in command 1\n"
        "number of failed transactions: 2 (0.1%)\n"
    )
    result = pgbench.evaluate([Reading(1, 1, 9), Reading(2, 2, 9)], [], output)
    assert result.errors == 4
    assert "it was lost" in result.first_error


@pytest.mark.parametrize(
    "output, readings",
    [
        ("pgbench: error: connection refused\n", []),
        ("number of failed transactions: 0\nodd\n", [Reading(1, 1, 0), Reading(2, 2, 0)]),
    ],
)
def test_pgbenchs_own_words_say_why_a_run_yields_nothing(
    output: str, readings: list[Reading]
) -> None:
    with pytest.raises(BenchError, match=output.splitlines()[-1]):
        pgbench.evaluate(readings, [], output)


def test_percentiles() -> None:
    assert percentile(range(101), 99) == 99
    assert percentile([1.0], 50) is None


@pytest.mark.parametrize(
    "text, version",
    [("PgBouncer 1.18.0", (1, 18, 0)), ("pgbench (PostgreSQL) 15.20 (x)", (15, 20)), ("none", ())],
)
def test_versions_are_read_from_what_programs_print(text: str, version: tuple[int, ...]) -> None:
    assert version_tuple(text) == version


def test_rows_are_picked_by_pattern_or_part_of_the_name() -> None:
    assert [found.name for found in select(["*-200"])] == [
        "simple-200",
        "extended-200",
        "prepared-200",
        "plain-200",
        "params-200",
    ]
    assert [found.name for found in select(["idle", "login-tls"])] == ["idle-5000", "login-tls"]
    assert select([]) == list(CASES)
    with pytest.raises(BenchError, match="simple-200"):
        select(["nothing-like-it"])


def test_the_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() -> None:
    ours, theirs = [10, 30, 20], [10, 20, 40]
    row = Row(case(), list(map(sample, ours)), list(map(sample, theirs)))
    assert row.ratios() == [1.0, 1.5, 0.5]
    assert row.ratio() == 1.0


@pytest.mark.parametrize(
    "target, ours, met",
    [
        (Target(1.25), sample(12.5), True),
        (Target(1.25), sample(12.6), False),
        (Target(4, of="cost"), sample(4.2), False),
        (Target(4, of="cost"), sample(3.9), True),
        (Target(0, of="errors"), sample(99, errors=1), False),
        (None, sample(1), None),
    ],
)
def test_targets_are_of_the_ratio_the_cost_or_the_errors(
    target: Target | None, ours: Sample, met: bool | None
) -> None:
    assert Row(case(target), [ours], [sample(10)]).met() is met


def test_tables_show_what_was_measured_and_why_something_was_not() -> None:
    rows = [
        Row(case(Target(1.25)), [sample(12)], [sample(10, errors=2)]),
        Row(case(Target(4, of="cost"), KIB), [sample(3)]),
        Row(case(), skipped="pgbench is missing"),
    ]
    report = Report("pgfunnel", "PgBouncer", rows, {"runs": 1})
    for shown in (report.table(), report.markdown()):
        assert "12.0" in shown
        assert "1.20" in shown
        assert "0 / 2" in shown
        assert "≤ 4 KiB" in shown
        assert "first error: 53300 no more" in shown
        assert "not measured: pgbench is missing" in shown
    kept = json.loads(json.dumps(report.json()))
    assert [row["ratio"] for row in kept["rows"]] == [pytest.approx(1.2), None, None]
    assert kept["rows"][0]["PgBouncer"][0]["errors"] == 2


def test_users_files_are_private_and_hold_the_kind_of_secret_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path, "127.0.0.1", 1, "bench", "plain-one", "SCRAM-SHA-256$x", 20)
    verifiers, plain = site.users_file(Door()), site.users_file(Door(stored="plain"))
    assert verifiers.read_text() == '"bench" "SCRAM-SHA-256$x"\n'
    assert plain.read_text() == '"bench" "plain-one"\n'
    assert {path.stat().st_mode & 0o777 for path in (verifiers, plain)} == {0o600}


def test_a_child_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such setting')"]
    child = Child("it", command, tmp_path / "log", environment={})
    with pytest.raises(BenchError, match="no such setting"):
        child.await_port(free_port())
    child.stop()


@pytest.mark.parametrize("arguments", [["--only", "nothing-like-it"], ["--runs", "0"]])
def test_misuse_is_answered_with_what_to_change(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    assert code in (1, 2)
    said = capsys.readouterr().err
    assert "simple-200" in said or "whole number from 1 up" in said
