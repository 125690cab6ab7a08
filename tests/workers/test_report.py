from workers.report import text_of


def test_small_figures_keep_their_digits():
    assert text_of(0.91666) == "0.917"
    assert text_of(0.00048828125) == "4.9e-04"
    assert text_of({"rf": 1.0, "fni": 0.0, "n": 12}) == "rf 1.000, fni 0.000, n 12"
