"""Measure search beside PECOS, Omikuji and napkinXC: batches, single rows, memory, loading.

    python benchmarks/bench_search.py                       # the bundled data
    python benchmarks/bench_search.py FOLDER ... [--rounds 5] [--only Elias "PECOS hash" ...]

Each competitor loads its model in a process of its own, once for one thread and once for two; then
all are asked in turn, round after round: a batch with k = 5, a batch with k = 100, and, on one
thread, single rows. Tables show medians over the rounds; ratios to the best mode of PECOS are taken
within each round. Quality is over all test rows, in percent. A batch is as many test rows as take
about --seconds, repeated if there are too few. A model that is not on disk is trained first, with
the library's defaults (--fresh trains all anew: do so after a change in training).
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from common import (
    competitor_parser,
    data_folders,
    find_quality,
    n_labels,
    print_machine,
    print_table,
    save,
)
from peers import launch
from peers.competitors import (
    ELIAS,
    ELIAS_ALONE,
    PECOS_MODES,
    SEARCH_OURS,
    SEARCH_PEERS,
    Competitor,
    taking_part,
)

KS = (5, 100)
QUALITY = ("P@1", "P@5", "R@100")
LOADING = {"RSS MB": "rss_mb", "load CPU s": "load_cpu_s", "first CPU s": "first_query_cpu_s"}
SINGLE = {
    "p50 CPU ms": "cpu_ms_p50",
    "p99 CPU ms": "cpu_ms_p99",
    "p50 ms": "wall_ms_p50",
    "p99 ms": "wall_ms_p99",
}
BATCH = {
    f"k={k} rows/{unit}": (k, key)
    for unit, key in (("CPU s", "rows_per_cpu_s"), ("s", "rows_per_wall_s"))
    for k in KS
}
SMALLEST_BATCH = 50


class Contestant:
    """A loaded competitor with a number of threads, and the figures of its rounds."""

    def __init__(self, competitor: Competitor, threads: int, session: launch.Session):
        self.name, self.threads, self.session = competitor.name, threads, session
        self.rows = 0
        self.rounds: list[dict[str, float]] = []

    def play(self, seconds: float, n_single: int, n_labels: int) -> None:
        """Answer one round of questions."""
        figures: dict[str, float] = {}
        batches = {
            k: self.session.ask(
                f"predict --k {min(k, n_labels)} --rows {self.rows} --seconds {seconds}"
            )
            for k in KS
        }
        figures |= {shown: batches[k][key] for shown, (k, key) in BATCH.items()}
        if self.threads == 1:
            single = self.session.ask(f"single --k {KS[0]} --rows {n_single}")
            figures |= {shown: single[key] for shown, key in SINGLE.items()}
        self.rounds.append(figures)

    def median(self) -> dict[str, float]:
        """Medians of the figures over the rounds."""
        return {key: float(np.median([one[key] for one in self.rounds])) for key in self.rounds[0]}


def main(arguments: list[str] | None = None) -> None:
    """Measure on each data set, print tables and ratios."""
    args = parse(arguments)
    results = []
    for folder in data_folders(args.folders):
        models = ready_models(folder, args)
        if models:
            results.append(measure(folder, models, args))
            report(results[-1])
            save("search", results)
    print_machine()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = competitor_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="about what a batch takes")
    parser.add_argument("--single", type=int, default=300, help="single rows in a round")
    parser.add_argument("--fresh", action="store_true", help="train anew what is on disk")
    return parser.parse_args(arguments)


def ready_models(folder: Path, args: argparse.Namespace) -> list[tuple[Competitor, Path]]:
    """Return those that can take part and their models, trained where there is none."""
    found, trained = [], set()
    for competitor in taking_part(SEARCH_OURS + SEARCH_PEERS, args.only, folder):
        model, record = launch.kept_model(competitor, folder, args.models)
        if model not in trained and (record is None or args.fresh):
            print(f"{folder.name}: training {competitor.name}", flush=True)
            launch.fit(competitor, folder, args.models)
        trained.add(model)
        found.append((competitor, model))
    return found


def measure(folder: Path, models: list[tuple[Competitor, Path]], args: argparse.Namespace) -> dict:
    """Load everything, measure quality once and speed in rounds."""
    with ExitStack() as stack:
        contestants = [
            Contestant(
                competitor,
                threads,
                stack.enter_context(launch.Session(competitor, folder, model, threads)),
            )
            for competitor, model in models
            for threads in args.threads
        ]
        qualities: dict[str, dict[str, float]] = {}
        costs: dict[str, dict] = {}
        for one in contestants:
            if one.name not in qualities:
                costs[one.name], qualities[one.name] = find_quality(one.session, folder)
            rate = costs[one.name]["rows_per_cpu_s"]
            one.rows = max(SMALLEST_BATCH, int(rate * args.seconds))
        for turn in range(args.rounds):
            print(f"{folder.name}: round {turn + 1} of {args.rounds}", flush=True)
            for one in contestants[:: 1 if turn % 2 == 0 else -1]:
                one.play(args.seconds, args.single, n_labels(folder))
        table = [
            {
                "competitor": one.name,
                "threads": one.threads,
                **one.median(),
                **{name: qualities[one.name][name] for name in QUALITY},
                **{shown: one.session.loaded[key] for shown, key in LOADING.items()},
            }
            for one in contestants
        ]
    return {"data": folder.name, "table": table, "ratios": ratios(contestants)}


def ratios(contestants: list[Contestant]) -> list[dict]:
    """Compare ours to the best mode of PECOS and to ours without ranker, and two threads to one."""
    by_name = {(one.name, one.threads): one.rounds for one in contestants}
    modes, found = [mode.name for mode in PECOS_MODES], []
    for (name, threads), rounds in by_name.items():
        pecos = [by_name[mode, threads] for mode in modes if (mode, threads) in by_name]
        if name in {competitor.name for competitor in SEARCH_OURS}:
            found.append(ratio(name, threads, "best PECOS", rounds, pecos))
            plain = by_name.get((ELIAS_ALONE.name, threads))
            if plain and name == ELIAS.name:
                found.append(ratio(name, threads, "no ranker", rounds, [plain]))
        if threads != 1 and (name, 1) in by_name:
            found.append(ratio(name, threads, "one thread", rounds, [by_name[name, 1]]))
    return [one for one in found if len(one) > 3]


def ratio(name: str, threads: int, to: str, rounds: list[dict], others: list[list[dict]]) -> dict:
    """Medians over rounds of one's figure by the best of the others' in the same round."""
    result = {"competitor": name, "threads": threads, "to": to}
    for key in rounds[0] if others else ():
        best = max if "rows" in key else min
        if all(key in other[0] for other in others):
            by_round = [
                mine[key] / best(other[turn][key] for other in others)
                for turn, mine in enumerate(rounds)
            ]
            result[key] = float(np.median(by_round))
    return result


def report(result: dict) -> None:
    """Print the table and the ratios of one data set."""
    for title, rows in (("medians", result["table"]), ("ratios", result["ratios"])):
        if rows:
            print(f"\n== {result['data']}, {title}")
            keys = list(dict.fromkeys(key for row in rows for key in row))
            print_table([{key: row.get(key, "") for key in keys} for row in rows])
    print()


if __name__ == "__main__":
    main()
