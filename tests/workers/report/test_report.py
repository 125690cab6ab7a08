from workers.report import text_of


def test_small_figures_keep_their_digits():
    assert text_of(0.91666) == "0.917"
    assert text_of(0.00048828125) == "4.9e-04"
    assert text_of({"rf": 1.0, "fni": 0.0, "n": 12}) == "rf 1.000, fni 0.000, n 12"


def a_report(tmp_path):
    """A section with a picture, a long table and a remark, as a chapter writes them."""
    import numpy as np
    import pandas as pd

    from pipeline import plotting
    from workers.report import Picture, Section

    matrix = np.random.default_rng(0).random((8, 8))
    plotting.save(plotting.confusion_figure(matrix), tmp_path / "matrix.png")
    table = pd.DataFrame({"kind": ["rf"] * 80, "fraction": np.linspace(0, 1, 80)})
    picture = Picture("Figure S6: everyone's response", "matrix.png", "Rows scaled to 1.")
    return Section("Verdict", [picture], [("Above", table)], ["Found < 5 & scored."])


def test_the_page_needs_no_other_file(tmp_path):
    import re

    from workers.report.page import write_html

    page = write_html(tmp_path, [a_report(tmp_path)], {"n_targets": 4}).read_text()
    sources = re.findall(r'src="([^"]{0,40})', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "href=" not in page
    assert "http" not in page
    assert "matrix.png" in page
    assert "Found &lt; 5 &amp; scored." in page
    assert "30 of 80 rows" in page


def pages(path):
    content = path.read_bytes()
    assert content.startswith(b"%PDF")
    return content.count(b"/Type /Page ") + content.count(b"/Type /Page\n")


def test_the_pdf_fills_its_pages(tmp_path):
    from workers.report import Section
    from workers.report.pdf import write_pdf

    chapter = a_report(tmp_path)
    short = write_pdf(tmp_path / "short.pdf", tmp_path, [chapter], {"n": 1})
    assert pages(short) == 2  # headline, remark and 24 rows; the picture
    short = Section("Short", remarks=chapter.remarks)
    path = write_pdf(tmp_path / "short.pdf", tmp_path, [short] * 5 + [chapter], {"n": 1})
    assert pages(path) == 2  # chapters share pages


def test_the_pdf_shrinks_a_picture_taller_than_a_page_and_breaks_long_text(tmp_path):
    import matplotlib.image
    import numpy as np

    from workers.report import Picture, Section
    from workers.report.pdf import write_pdf

    matplotlib.image.imsave(tmp_path / "tall.png", np.zeros((3000, 400, 3)))
    tall = Section("Tall", [Picture("Figure 1", "tall.png", "Caption.")])
    assert pages(write_pdf(tmp_path / "a.pdf", tmp_path, [tall], None)) == 2
    text = Section("Methods", remarks=["word " * 3000])
    assert pages(write_pdf(tmp_path / "b.pdf", tmp_path, [text], None)) == 3


def test_what_has_no_data_is_said():
    from workers.report import PAPER, Picture, Section, _missing

    titles = ["Figures S1a, S5: starts", "Figures 2 and 4: stimuli", "Figure S10: linearised"]
    left = _missing([Section("", [Picture(title, "x.png") for title in titles])])
    named = {line.split(":")[0].removeprefix("Figure ") for line in left}
    assert named == {name.removeprefix("Figure ") for name in PAPER} - {
        "S1a",
        "S5",
        "2",
        "4",
        "S10",
    }


def test_animals_that_disagree_are_no_effect_however_many_neurons_they_have():
    import numpy as np
    import pandas as pd

    from workers.report.together import pooled

    def neurons(animal, mean, n, kind="rf"):
        difference = np.random.default_rng(animal).normal(mean, 0.3, n)
        rest = {name: 1.0 for name in ("ratio", "t", "p", "p_adjusted")}
        known = {"df": 30.0, "sem": 0.1, "significant": True, "scored": True, "kind": kind}
        known["reference"] = "mei"
        return pd.DataFrame({"animal_id": animal, "difference": difference, **rest, **known})

    apart = pooled(pd.concat([neurons(1, 1.0, 300), neurons(2, -1.0, 100)])).iloc[0]
    assert apart.wilcoxon_p < 1e-6  # takes them for 400 independent ones
    assert apart.bootstrap_p > 0.2
    both = [neurons(k, 1.0, 50) for k in (1, 2, 3)]
    alike = pooled(pd.concat([*both, neurons(1, 1.0, 50, "mni")])).set_index("kind")
    assert list(alike.index) == ["rf"]  # one animal alone is not pooled
    assert alike.loc["rf", "bootstrap_p"] < 0.01
    assert tuple(alike.loc["rf", ["n_animals", "n_neurons"]]) == (3, 150)
