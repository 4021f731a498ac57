import pytest

from benchmarks import compare, results
from benchmarks.suite import Case

HEADER = {"machine": "this one", "versions": {"jax": "0.10.2", "jaxlib": "0.10.2"}}


def record(contender, median, least, **case):
    case = {**Case("lstm", "training", "float32", 2, 6, 3, 4)._asdict(), **case}
    return {**case, "contender": contender, "median_s": median, "min_s": least, "matmul_gflops": 100.0}


@pytest.fixture
def files(tmp_path):
    old = [record("jaxseq", 0.010, 0.008), record("torch", 0.020, 0.02), record("jaxseq", 0.001, 0.001, H=8)]
    new = [record("jaxseq", 0.015, 0.010), record("torch", 0.010, 0.02), record("keras", 0.001, 0.001)]
    newer = {**HEADER, "versions": {"jax": "0.12.0", "jaxlib": "0.10.2"}}
    results.save(tmp_path / "old", HEADER, old)
    results.save(tmp_path / "new", newer, [{**each, "matmul_gflops": 50.0} for each in new], laws=[])
    return [str(tmp_path / name / "results.json") for name in ("old", "new")]


def test_each_record_that_both_have_is_compared_the_slower_first(files, capsys):
    compare.main(files)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "jax: 0.10.2 → 0.12.0"
    case = "lstm, training, float32, 2, 6, 3, 4, "
    assert [line.split() for line in lines[2:4]] == [
        [*f"{case}jaxseq".split(), "10.000", "15.000", "1.50", "1.25"],
        [*f"{case}torch".split(), "20.000", "10.000", "0.50", "1.00"],
    ]
    assert [line.split() for line in lines[6:9]] == [
        ["jaxseq", "1.50", "1.25", "1"],
        ["torch", "0.50", "1.00", "1"],
        ["(a", "large", "matrix", "product)", "2.00"],
    ]
    assert lines[9:] == ["in the old file alone: 1", "in the new file alone: 1"]


def test_slower_shows_what_is_so_by_both_and_says_it_by_the_exit_code(files, capsys):
    with pytest.raises(SystemExit) as stopped:
        compare.main([*files, "--slower", "1.2"])
    assert stopped.value.code == 1
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lstm")]
    assert len(shown) == 1
    compare.main([*files, "--slower", "1.3"])
    assert "lstm" not in capsys.readouterr().out


def test_the_same_header_is_said_so():
    assert compare.differences(HEADER, HEADER) == ["the same machine and versions"]
    without = {**HEADER, "versions": {"jax": "0.10.2"}}
    assert compare.differences(without, HEADER) == ["jaxlib: none → 0.10.2"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"header": {}, "records": []}', '{"header": 3, "records": [{}]}'])
def test_other_files_are_named(files, tmp_path, text, capsys):
    (tmp_path / "other").write_text(text)
    with pytest.raises(SystemExit) as ended:
        compare.main([files[0], str(tmp_path / "other")])
    assert ended.value.code == 2
    assert "other is no results.json of a benchmark: " in capsys.readouterr().err
