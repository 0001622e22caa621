"""What is logged: the function's lines, Lambda's own around them, and the tail that a caller can ask for."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from local.workers import LogSink, Workers
from local.workers.logs import LONGEST_LINE_BYTES, OutputPipe
from tests.integration.workers.conftest import Run
from tests.integration.workers.harness import Log, call, function, running

ROOT = Path(__file__).parents[3]


def test_an_invocation_logs_start_its_output_end_and_report_in_order(run: Run) -> None:
    log = Log()

    async def scenario() -> tuple[str, str, bytes]:
        async with running(function("prints", memory_mb=256), log=log) as workers:
            cold = await workers.invoke("prints", b'{"lines": 2}')
            warm = await workers.invoke("prints", b'{"lines": 1, "unfinished": "no line break"}')
            return cold.request_id, warm.request_id, warm.log_tail

    cold, warm, tail = run(scenario())

    figures = r"Duration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB(\tMax Memory Used: \d+ MB)?"
    expected = [
        f"START RequestId: {cold} Version: \\$LATEST",
        "line 0",
        "line 1",
        "to stderr",
        rf"\[WARNING\]\t[\d\-:.TZ]+\t{cold}\tthrough logging",
        f"END RequestId: {cold}",
        f"REPORT RequestId: {cold}\t{figures}\tInit Duration: [\\d.]+ ms",
        f"START RequestId: {warm} Version: \\$LATEST",
        "line 0",
        "to stderr",
        rf"\[WARNING\]\t[\d\-:.TZ]+\t{warm}\tthrough logging",
        f"END RequestId: {warm}",
        f"REPORT RequestId: {warm}\t{figures}",
        "no line break",
    ]
    assert len(log.lines) == len(expected)
    for line, pattern in zip(log.lines, expected, strict=True):
        assert re.fullmatch(f"prints: {pattern}", line), line
    assert tail.decode().splitlines() == [line.removeprefix("prints: ") for line in log.lines[7:13]]


def test_the_tail_holds_the_last_four_kilobytes(run: Run, workers: Workers) -> None:
    tail = run(workers.invoke("prints", b'{"lines": 20000}')).log_tail

    assert len(tail) == 4096
    assert b"line 19999\nto stderr\n" in tail
    assert re.search(rb"\nREPORT RequestId: [^\n]*\n$", tail)


def test_what_a_function_wrote_before_its_result_is_in_the_tail_every_time(run: Run, workers: Workers) -> None:
    # The output and the result come over different ways, and either may be noticed first.
    async def scenario() -> list[bytes]:
        return [(await workers.invoke("prints", b"{}")).log_tail for _ in range(200)]

    for tail in run(scenario()):
        written = [line.split(b" RequestId", 1)[0] for line in tail.splitlines()]
        assert [*written[:3], *written[4:]] == [b"START", b"line 0", b"to stderr", b"END", b"REPORT"]


def test_a_record_is_one_line_whatever_is_in_it_and_the_next_begins_behind_it(run: Run) -> None:
    log = Log()
    forged = "x\n[ERROR]\tforged\n"

    async def scenario() -> None:
        async with running(function("careless"), log=log) as workers:
            await workers.invoke("careless", json.dumps({"text": forged, "fail": True}).encode())

    run(scenario())

    # What a library logged with a traceback, the metrics behind it, and the runtime's own word on the failure
    kinds = [line.removeprefix("careless: ")[:9] for line in log.lines]
    assert kinds == ["START Req", "[ERROR]\t2", '{"_aws": ', "[ERROR] R", "END Reque", "REPORT Re"]
    assert log.lines[1].endswith("\rValueError: x\r[ERROR]\tforged")


@pytest.mark.parametrize("with_core", [False, True], ids=["negative-control", "core"])
def test_what_libraries_log_passes_through_the_cores_formatter(with_core: bool, run: Run) -> None:
    log, secret = Log(), "token=swordfish of ada@example.org"
    environment = {"WITH_CORE": "1"} if with_core else {}
    careless = function("careless", environment=environment, layers=(ROOT / "layers" / "core",), timeout_seconds=20)

    async def scenario() -> None:
        async with running(careless, log=log) as workers:
            await workers.invoke("careless", json.dumps({"text": secret}).encode())

    run(scenario())

    (line,) = [line for line in log.lines if "a library's traceback" in line]
    if with_core:
        record = json.loads(line.removeprefix("careless: "))
        assert (record["level"], record["exception_name"]) == ("ERROR", "ValueError")
        assert "ValueError: token=<redacted> of mail:" in record["exception"]
    assert ("swordfish" in line) == (not with_core)


def test_a_line_longer_than_an_event_can_be_is_split() -> None:
    lines: list[bytes] = []
    read_end, write_end = os.pipe()
    pipe = OutputPipe(read_end, lines.append)

    for _ in range(6):
        os.write(write_end, b"x" * 60_000)
        pipe.drain()
    os.write(write_end, b"\nnext\n")
    os.close(write_end)
    more = pipe.drain()
    os.close(read_end)

    assert b"".join(lines[:-1]) == b"x" * 360_000
    assert lines[-1] == b"next"
    assert len(lines[0]) >= LONGEST_LINE_BYTES
    assert more  # the end of the pipe shows at the next read


def test_the_sink_writes_a_file_per_function_and_shows_each_line_to_the_observer(run: Run, tmp_path: Path) -> None:
    observed: list[tuple[str, bytes]] = []
    sink = LogSink(tmp_path / "logs", observe=lambda name, line: observed.append((name, line)))

    async def scenario() -> None:
        async with running(function("prints"), function("noop"), log=sink) as workers:
            await call(workers, "prints", {"lines": 1})
            await call(workers, "noop")

    run(scenario())
    sink.close()

    for name in ("prints", "noop"):
        written = sink.path(name).read_bytes().splitlines()
        assert [line.split(b" ", 1)[1] for line in written] == [line for owner, line in observed if owner == name]
        assert all(re.match(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line) for line in written)
    assert ("prints", b"line 0") in observed


def test_the_sink_rotates_by_size_and_keeps_the_newest(tmp_path: Path) -> None:
    sink = LogSink(tmp_path, maximum_bytes=1_000, kept_files=2)

    for number in range(200):
        sink("f", b"line %d" % number)
    sink.close()

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["f.log", "f.log.1", "f.log.2"]
    assert all(path.stat().st_size <= 1_100 for path in tmp_path.iterdir())
    kept = b"".join((tmp_path / name).read_bytes() for name in ("f.log.2", "f.log.1", "f.log"))
    numbers = [int(line.rpartition(b" ")[2]) for line in kept.splitlines()]
    assert numbers == list(range(numbers[0], 200))
