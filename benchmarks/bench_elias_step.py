"""Measure a stage-2 step of ELIAS beside the same step in plain torch with dense gradients.

    python benchmarks/bench_elias_step.py                   # the bundled data
    python benchmarks/bench_elias_step.py FOLDER ... [--steps 40] [--rows 10240]

Both start from the same model (one epoch of each stage) and take the same mini-batches in turn, at
equal d, K, kappa, beam and batch, one thread. Reported are medians of CPU seconds a step and the
mean loss of each fifth of the steps. With row-wise Adagrad over whole matrices the baseline learns
exactly as we do (tests hold it to that, without dropout and drawing), so the curves differ by what
is drawn and by rounding; with torch.optim.AdamW, what most would take, by the optimiser too.
"""

import argparse
import copy
import inspect
import time

import numba
import numpy as np
import torch
from common import data_folders, load_folder, print_machine, print_table, save
from dense_elias import DenseElias, optimizers

from skxmc import EliasClassifier
from skxmc.encoders import BagOfWords
from skxmc.training.elias import EliasObjective, EliasRates
from skxmc.training.elias_stages import EXPLORATION, LEAST_PULL, EliasTraining
from skxmc.training.loop import Plan, Trainer, schedule

OURS = "ours"
TABLES = ("row-wise Adagrad", "AdamW")
WARM_UP_STEPS = 3
PARTS = 5
SEED = 0


class Baseline:
    """The dense model with its optimisers; takes the steps that ours takes."""

    def __init__(self, objective: EliasObjective, tables: str):
        model = objective.module
        self.dense = DenseElias(model, objective.parents, objective.rates)
        self.optimizers = optimizers(self.dense, model, tables)
        groups = [group for one in self.optimizers for group in one.param_groups]
        self.rates = [(group, group["lr"]) for group in groups]

    def step(self, X, Y, factor: float) -> float:
        """Train on a mini-batch; return the loss before."""
        for group, rate in self.rates:
            group["lr"] = rate * factor
        loss = self.dense.loss(X, Y)
        for one in self.optimizers:
            one.zero_grad(set_to_none=True)
        loss.backward()
        for one in self.optimizers:
            one.step()
        return float(loss.detach())


class Alternation:
    """Stands in for our objective in the trainer, and lets the baselines follow each step.

    As the trainer's callback it is told of each finished step; then the baselines train on the
    same rows at the same factor of the rates.
    """

    def __init__(self, objective: EliasObjective, baselines: dict[str, Baseline], plan, n_steps):
        self.objective, self.baselines = objective, baselines
        self.warmup, self.n_steps = plan.warmup, n_steps
        self.losses: dict[str, list[float]] = {name: [] for name in (OURS, *baselines)}
        self.seconds: dict[str, list[float]] = {name: [] for name in (OURS, *baselines)}
        self.module, self.table_factor = objective.module, objective.table_factor
        self.parameter_groups = objective.parameter_groups

    def loss(self, rows):
        """Pass the loss of our objective on; ours' time runs from here."""
        self.rows, self.start = rows, time.process_time()
        loss, scalars = self.objective.loss(rows)
        self.losses[OURS].append(float(loss.detach()))
        return loss, scalars

    def on_batch_end(self):
        """End our step, take those of the baselines."""
        self.seconds[OURS].append(time.process_time() - self.start)
        factor = schedule(len(self.losses[OURS]) - 1, self.n_steps, self.warmup)
        X, Y = self.objective.data[self.rows], self.objective.Y[self.rows]
        for name, baseline in self.baselines.items():
            start = time.process_time()
            self.losses[name].append(baseline.step(X, Y, factor))
            self.seconds[name].append(time.process_time() - start)

    def on_train_begin(self, n_epochs, n_batches):
        """Hear that training starts."""

    def on_train_end(self):
        """Hear that training ended."""

    def on_epoch_end(self, record):
        """Go on."""
        return False


def main(arguments: list[str] | None = None) -> None:
    """Compare on each data set."""
    args = parse(arguments)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    results = []
    for folder in data_folders(args.folders):
        X, Y, _, _ = load_folder(folder)
        results += compare(folder.name, X[: args.rows], Y[: args.rows], args)
        print_table(results)
        save("elias_step", results)
    print_machine()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", help="data folders; the bundled data by default")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rows", type=int, default=10_240, help="the first N training rows")
    return parser.parse_args(arguments)


def compare(name: str, X, Y, args: argparse.Namespace) -> list[dict]:
    """Train both for the same steps; one row of the table for each."""
    objective, batch_size = start(X, Y)
    alternation = alternate(objective, batch_size, args.steps, TABLES)
    medians = {
        who: float(np.median(seconds[WARM_UP_STEPS:]))
        for who, seconds in alternation.seconds.items()
    }
    rows = []
    for who, losses in alternation.losses.items():
        parts = [float(part.mean()) for part in np.array_split(np.array(losses), PARTS)]
        rows.append(
            {
                "data": name,
                "step": who if who == OURS else f"dense, {who}",
                "CPU ms": 1000 * medians[who],
                "ours / this": medians[OURS] / medians[who],
                **{f"loss {i + 1}/{PARTS}": part for i, part in enumerate(parts)},
            }
        )
    return rows


def start(X, Y, **parameters) -> tuple[EliasObjective, int]:
    """Train one epoch of each stage; return the objective of stage 2 and the batch size."""
    if "ranker" in inspect.signature(EliasClassifier).parameters:
        parameters["ranker"] = None
    clf = EliasClassifier(BagOfWords(init="random"), stage1_epochs=1, stage2_epochs=1, **parameters)
    Y, device, factor = Y.astype(np.float32), torch.device("cpu"), clf.stage2_factor
    # not `fit`, which drops the state of the optimisers at its end
    torch.manual_seed(SEED)
    model, _ = EliasTraining(clf, np.random.RandomState(SEED), device).run(X, Y)
    rates = EliasRates(
        lr_encoder=clf.lr_encoder * factor,
        lr_clusters=clf.lr_clusters * factor,
        lr_edges=clf.lr_edges,
        lr_factor_tables=factor,
        weight_decay=clf.weight_decay,
        dropout=clf.dropout,
        lambda_shortlist=clf.lambda_shortlist,
        beam_width=clf.beam_width,
        shortlist_size=clf.train_shortlist_size,
        exploration=EXPLORATION,
        least_pull=LEAST_PULL,
    )
    data = model.encoder.prepare(X)
    batch_size = 256 if clf.batch_size == "auto" else clf.batch_size
    return EliasObjective(model, data, Y, rates, device), batch_size


def alternate(
    objective: EliasObjective, batch_size: int, n_steps: int, tables: tuple[str, ...]
) -> Alternation:
    """Take `n_steps` steps of ours, each followed by one of every baseline."""
    plan = Plan(1, batch_size)
    rows = np.resize(np.arange(objective.Y.shape[0]), n_steps * batch_size)
    objective.data, objective.Y = objective.data[rows], objective.Y[rows]
    baselines = {name: Baseline(copy.copy(objective), name) for name in tables}
    alternation = Alternation(objective, baselines, plan, n_steps)
    Trainer(alternation, plan, [alternation]).run(rows.size, np.random.RandomState(SEED))
    return alternation


if __name__ == "__main__":
    main()
