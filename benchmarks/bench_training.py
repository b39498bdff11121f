"""Measure what training costs beside the peers, and what comes out of it.

    python benchmarks/bench_training.py                     # the bundled data
    python benchmarks/bench_training.py FOLDER ... [--rounds 3] [--threads 1]

In each round every competitor is trained once, in a fresh process, with default parameters (ours
after a tiny fit that compiles the kernels). The table shows medians over the rounds, and metrics of
the last round's model in percent; ratios of ours to each peer are taken within the rounds.
bench_accuracy.py has several seeds and all metrics, bench_elias_step.py looks at a single step.
"""

import argparse
from pathlib import Path

import numpy as np
from common import (
    competitor_parser,
    data_folders,
    find_quality,
    print_machine,
    print_table,
    save,
)
from peers import launch
from peers.competitors import OURS, PEERS, Competitor, taking_part

COSTS = {
    "CPU s": "fit_cpu_s",
    "wall s": "fit_wall_s",
    "peak MB": "peak_mb",
    "model MB": "model_mb",
}
QUALITY = ("P@1", "P@5", "PSP@5")


def main(arguments: list[str] | None = None) -> None:
    """Measure on each data set, print tables and ratios."""
    args = parse(arguments)
    results = []
    for folder in data_folders(args.folders):
        competitors = taking_part(OURS + PEERS, args.only, folder)
        if competitors:
            results.append(measure(folder, competitors, args))
            report(results[-1])
            save("training", results)
    print_machine()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = competitor_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def measure(folder: Path, competitors: list[Competitor], args: argparse.Namespace) -> dict:
    """Train everyone in rounds, then measure the last models."""
    rounds: dict[str, list[dict]] = {competitor.name: [] for competitor in competitors}
    models: dict[str, Path] = {}
    for turn in range(args.rounds):
        for competitor in competitors[:: 1 if turn % 2 == 0 else -1]:
            print(f"{folder.name}: {competitor.name}, round {turn + 1}", flush=True)
            models[competitor.name], record = launch.fit(
                competitor, folder, args.models, args.threads
            )
            rounds[competitor.name].append(record["fit"])
    table = []
    for competitor in competitors:
        with launch.Session(competitor, folder, models[competitor.name], 1) as session:
            metrics = find_quality(session, folder)[1]
        fits = rounds[competitor.name]
        costs = {shown: [one[key] for one in fits] for shown, key in COSTS.items()}
        table.append(
            {
                "competitor": competitor.name,
                **{shown: float(np.median(values)) for shown, values in costs.items()},
                "spread CPU s": float(np.ptp(costs["CPU s"])),
                **{name: metrics[name] for name in QUALITY},
            }
        )
    return {
        "data": folder.name,
        "threads": args.threads,
        "rounds": args.rounds,
        "table": table,
        "ratios": ratios(competitors, rounds),
    }


def ratios(competitors: list[Competitor], rounds: dict[str, list[dict]]) -> list[dict]:
    """Compare ours to each peer: medians over the rounds of the quotient of costs."""
    return [
        {
            "ratio": f"{mine.name} / {peer.name}",
            **{
                shown: float(
                    np.median(
                        [
                            one[key] / other[key]
                            for one, other in zip(rounds[mine.name], rounds[peer.name], strict=True)
                        ]
                    )
                )
                for shown, key in COSTS.items()
            },
        }
        for mine in competitors
        if mine.ours
        for peer in competitors
        if not peer.ours
    ]


def report(result: dict) -> None:
    """Print the table and the ratios of one data set."""
    for title in ("table", "ratios"):
        if result[title]:
            print(f"\n== {result['data']}, {title}, {result['threads']} thread(s)")
            print_table(result[title])
    print()


if __name__ == "__main__":
    main()
