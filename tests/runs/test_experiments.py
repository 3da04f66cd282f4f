"""Every config of the repository runs, at reduced size, and names its sites."""

from pathlib import Path

import pytest
import yaml

from activjax import cli

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    "quickstart": ["widths=[8]", "epochs=2", "seeds=2", "measure_epochs=[0]", "draws=2"],
    "lazy_neuron": ["widths=[16]", "epochs=2", "seeds=2", "measure_epochs=[0]"],
    "covariance_spectra": ["width=16", "epochs=2", "seeds=2"],
    "suppressors": ["rows=500", "seeds=2", "batch=100"],
}


def test_every_config_is_here():
    assert {p.stem for p in ROOT.glob("configs/*.yaml")} == set(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_config_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = ROOT / f"configs/{name}.yaml"
    assert cli.main(["run", str(config), *SMALL[name]]) == 0
    (folder,) = (tmp_path / "runs").glob("*/*")
    result = yaml.safe_load((folder / "result.json").read_text())
    assert result["status"] == "done"
    assert result["question"].endswith("?")
    assert all(row["baseline"] is not None and row["n"] >= 1 for row in result["summary"])
    assert list(folder.glob("figures/*.png"))
    assert (folder / "report.html").stat().st_size > 10_000
    assert cli.main(["sites", str(config), *SMALL[name]]) == 0
    assert "float32" in capsys.readouterr().out
