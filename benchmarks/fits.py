"""How long the main job's fit takes on all cores of a machine that does nothing else.

python -m benchmarks.fits --data FOLDER configs/amazon-beauty.toml configs/movielens-1m.toml

FOLDER holds a folder for each configuration, of its name, with its tables. Each fit is that of
`dualtower fit CONFIG --on train+validation`, in a process of its own. Studies, whose fits run
beside other work on one thread, record longer times. Writes results/fits.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from dualtower.evaluation.results import (
    Measurements,
    peak_memory_mb,
    processor,
    versions,
    write_results,
)
from dualtower.evaluation.tables import results_table
from dualtower.studies.run import fit_bundle
from dualtower.studies.study import Study

FITTED_ON = "train+validation"


def main() -> None:
    """Fit each configuration, print and write the results file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fits")
    parser.add_argument("configs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--results", type=Path, default=Path("results/fits.json"))
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.configs[0], arguments.data)))
        return
    runs = []
    for config in arguments.configs:
        command = [sys.executable, "-m", "benchmarks.fits", str(config), "--measure"]
        command += ["--data", str(arguments.data)]
        measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        runs.append({"config": config.stem, **measured})
    results = Measurements(
        command=f"python -m benchmarks.fits {' '.join(map(str, arguments.configs))} --data FOLDER",
        protocol=f"one fit on {FITTED_ON} for each configuration, one after the other, on all "
        "cores, with nothing else running; without preparation, and without the index, which "
        "takes a second",
        versions=versions(),
        processor=processor(),
        runs=tuple(runs),
    )
    print(results_table(results))
    write_results(arguments.results, results)


def measure(config_path: Path, data: Path) -> dict[str, str | int | float]:
    """Prepare, fit and index in a temporary folder; what the fit took.

    Args:
        config_path: the configuration.
        data: folder with one of the configuration's name, which holds its tables.
    """
    with tempfile.TemporaryDirectory(prefix="fits-") as name:
        folder = Path(name)
        study = Study(
            config_path, results=folder / "none.json", data=data / config_path.stem, work=folder
        )
        config = study.config()
        bundle = config.bundle.model_copy(update={"path": str(folder / "bundle")})
        fitted = fit_bundle(
            config.model_copy(update={"bundle": bundle}), FITTED_ON, lambda line: None
        )
    epochs = fitted.record.epochs
    return {
        "model": fitted.bundle.model.name,
        "passes": len(epochs),
        "seconds": round(fitted.seconds, 1),
        "shortest_pass": round(min(epoch.seconds for epoch in epochs), 1),
        "longest_pass": round(max(epoch.seconds for epoch in epochs), 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }


if __name__ == "__main__":
    main()
