from pathlib import Path

from bench import report
from bench.demands import DEMANDS
from bench.lib.results import Results


def test_what_was_not_measured_is_said_to_be_so(tmp_path: Path) -> None:
    Results(bench="throughput", scale="small", folder=tmp_path).figure("ratio", 0.5)
    results = report.load(tmp_path)
    rows = {(row["bench"], row["figure"]): row for row in report.summary(results)}
    assert len(rows) == len(DEMANDS)
    assert rows["throughput", "ratio"]["met"] is False
    assert rows["drain", "ratio"]["met"] is None
    assert "| 0.5 times | **not met** |  |" in report.table(results)
    assert report.table(results).count("not measured") == len(DEMANDS) - 1


def test_what_no_operator_needs_stands_beside_it(tmp_path: Path) -> None:
    results = Results(bench="latency", scale="small", folder=tmp_path)
    results.figure("create_p50_ms", 18)
    results.figure("create_p50_ms_least", 12)
    found = report.load(tmp_path)
    assert "| ≤ 8 ms | 18 ms | **not met** | 12 ms |" in report.table(found)
    rows = {row["figure"]: row["without_operator"] for row in report.summary(found)}
    assert (rows["create_p50_ms"], rows["create_p99_ms"]) == (12, None)


def test_results_stay_when_the_rest_fails(tmp_path: Path) -> None:
    results = Results(bench="latency", scale="full", folder=tmp_path)
    results.figure("create_p50_ms", 5.00049)
    results.error = "SystemExit: void"
    results.save()
    found = report.load(tmp_path)
    assert found["latency"]["figures"] == {"create_p50_ms": 5.0}
    assert "did not come to its end: SystemExit: void" in report.page(found)


def test_the_page_says_on_what_machine_it_was(tmp_path: Path) -> None:
    Results(bench="decision", scale="full", folder=tmp_path).figure("ratio", 1.1)
    page = report.page(report.load(tmp_path))
    assert "Scale full" in page
    assert "processors" in page
    assert "Nothing was measured yet" in report.page({})


def test_plots_are_drawn_of_what_is_there(tmp_path: Path) -> None:
    results = Results(bench="neighbour", scale="small", folder=tmp_path)
    results.series = {"alone_ms": [1.0, 2.0, 3.0], "beside_ms": [2.0, 3.0, 4.0]}
    results.save()
    report.write(tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"neighbour.png"}
