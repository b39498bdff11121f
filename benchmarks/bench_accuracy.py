"""Measure accuracy with default parameters beside the peers, and what it costs.

    python benchmarks/bench_accuracy.py                     # the bundled data
    python benchmarks/bench_accuracy.py FOLDER ...          # folders of X_train.npz, ...
    python benchmarks/bench_accuracy.py FOLDER --only peers # or `ours`, or a competitor's name

Every competitor is trained and asked for the 100 best labels of each test row in fresh processes
of its own environment; all metrics are ours, in percent. Figures of estimators with a seed are
means over the seeds, with the spread (largest less smallest) in brackets. Propensities have A =
0.55 and B = 1.5; cov@5 is the share of labels that are hit in at least one row's first five.

Results are written after each fit. What is on file with the same configuration (sources, versions,
parameters, seed, threads, data) is not run again, unless --fresh says so.
"""

import argparse
import datetime
from pathlib import Path

import numpy as np
from common import (
    competitor_parser,
    data_folders,
    describe_machine,
    find_quality,
    load_results,
    print_machine,
    print_table,
    save,
)
from peers import launch
from peers.competitors import OURS, PEERS, Competitor, taking_part

NAME = "accuracy"
COSTS = ("fit_cpu_s", "peak_mb", "model_mb")


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not on file and print a table for each data set."""
    args = parse(arguments)
    entries = load_results(NAME)
    for folder in data_folders(args.folders):
        rows = []
        for competitor in taking_part(OURS + PEERS, args.only, folder):
            seeds = range(args.seeds) if competitor.ours else (0,)
            found = [result(competitor, folder, seed, entries, args) for seed in seeds]
            rows.append(summarize(competitor.name, found))
        if rows:
            report(folder.name, rows)
    print_machine()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = competitor_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="seeds for ours")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="measure again what is on file")
    return parser.parse_args(arguments)


def result(
    competitor: Competitor, folder: Path, seed: int, entries: list[dict], args: argparse.Namespace
) -> dict:
    """Return a result on file, or measure and file it."""
    configuration = launch.configuration(competitor, folder, args.threads, seed)
    name = {"data": folder.name, "competitor": competitor.name, "seed": configuration["seed"]}
    same = [entry for entry in entries if {key: entry[key] for key in name} == name]
    everything = {**configuration, "load": competitor.load}
    if same and same[0]["configuration"] == everything and not args.fresh:
        return same[0]
    print(f"{folder.name}: {competitor.name}, seed {seed}", flush=True)
    model, record = launch.kept_model(competitor, folder, args.models, seed)
    if args.fresh or record is None or record["configuration"] != configuration:
        model, record = launch.fit(competitor, folder, args.models, args.threads, seed)
    with launch.Session(competitor, folder, model, args.threads) as session:
        cost, metrics = find_quality(session, folder)
    measured = {
        **name,
        "commit": describe_machine()["commit"],
        "date": datetime.date.today().isoformat(),
        "configuration": everything,
        "fit": record["fit"],
        "predict": cost,
        "metrics": metrics,
    }
    entries[:] = [entry for entry in entries if entry not in same] + [measured]
    save(NAME, entries)
    return measured


def summarize(name: str, found: list[dict]) -> dict:
    """Collect the figures of all seeds: a row of arrays."""
    figures = [{**one["metrics"], **{key: one["fit"][key] for key in COSTS}} for one in found]
    arrays = {key: np.array([one[key] for one in figures]) for key in figures[0]}
    return {"competitor": name, **arrays}


def report(data: str, rows: list[dict]) -> None:
    """Print the table, and how ours stand to the best peer in each metric."""
    print(f"\n== {data}")
    print_table([{key: cell(value) for key, value in row.items()} for row in rows])
    ours = {competitor.name for competitor in OURS}
    peers = [row for row in rows if row["competitor"] not in ours]
    for row in rows:
        if row["competitor"] in ours and peers:
            gaps = (
                f"{key} {value.mean() - max(peer[key].mean() for peer in peers):+.2f}"
                for key, value in row.items()
                if "@" in key
            )
            print(f"{row['competitor']} less the best peer: {', '.join(gaps)}")
    print()


def cell(value) -> str:
    """Mean of an array, with the spread if there are several values."""
    if isinstance(value, str):
        return value
    spread = f" ({np.ptp(value):.2f})" if value.size > 1 else ""
    return f"{value.mean():.2f}{spread}"


if __name__ == "__main__":
    main()
