from benchmarks import duel


def test_a_line_for_each_cell_and_mode(capsys):
    duel.main(["--sizes", "2,6,3,4", "--rounds", "2"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    cases = [line[:3] for line in lines if line[2:3] == ["2,6,3,4"]]
    assert cases == [[cell, mode, "2,6,3,4"] for mode in ("training", "inference") for cell in ("rnn", "lstm", "gru")]
