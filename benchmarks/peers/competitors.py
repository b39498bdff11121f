"""Who competes, with which settings. Edit here to add a variant or a peer."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path

import scipy.sparse as sp

from peers.environments import RECIPES, PeerMissing, python_of

BONSAI = {"cluster_balanced": False, "cluster_k": 100, "max_depth": 3}
# more labels than this would take one-versus-rest hours and gigabytes
FEW_LABELS = 2000


@dataclass(frozen=True)
class Competitor:
    """A row of the tables.

    Parameters
    ----------
    name : str
        How tables call it.
    script : str
        ``run_<script>.py`` runs it, in the environment of that name if there is a recipe for one.
    fit, load : dict
        Parameters of training, and of loading and prediction; the script says which it takes.
    max_labels : int or None
        It takes part only where labels are that few.
    """

    name: str
    script: str
    fit: dict = field(default_factory=dict)
    load: dict = field(default_factory=dict)
    max_labels: int | None = None

    @property
    def ours(self) -> bool:
        """Whether this is an estimator of skxmc."""
        return self.script == "ours"


def _ours(name: str, estimator: str, load: dict | None = None, **parameters) -> Competitor:
    return Competitor(name, "ours", {"estimator": estimator, **parameters}, load or {})


ELIAS = _ours("Elias", "EliasClassifier")
SNM = _ours("SNM", "SNMClassifier")
ELIAS_ALONE = _ours("Elias, no ranker", "EliasClassifier", ranker=None)
OURS = [ELIAS, ELIAS_ALONE, SNM]

PECOS = Competitor("PECOS", "pecos")
OMIKUJI = Competitor("Omikuji", "omikuji")
OMIKUJI_BONSAI = Competitor("Omikuji Bonsai", "omikuji", BONSAI)
NAPKIN_PLT = Competitor("napkinXC PLT", "napkinxc", {"model": "PLT"}, {"model": "PLT"})
NAPKIN_BR = Competitor("napkinXC BR", "napkinxc", {"model": "BR"}, {"model": "BR"}, FEW_LABELS)
ONE_VS_REST = Competitor("OneVsRest", "sklearn", max_labels=FEW_LABELS)
PEERS = [PECOS, OMIKUJI, OMIKUJI_BONSAI, NAPKIN_PLT, NAPKIN_BR, ONE_VS_REST]

# What is compared in search: modes of loading of the same models. A beam of 10 instead of its 20
# makes PECOS about as accurate in the first ranks, and faster.
PECOS_MODES = [
    Competitor(f"PECOS {short}", "pecos", load={"mode": mode, "beam": 10})
    for short, mode in (
        ("binary", "BINARY_SEARCH_CHUNKED"),
        ("hash", "HASH_CHUNKED"),
        ("mmap", "mmap"),
    )
]
SEARCH_PEERS = [
    *PECOS_MODES,
    OMIKUJI,
    Competitor("Omikuji dense", "omikuji", load={"densify": 0.01}),
    NAPKIN_PLT,
]
SEARCH_OURS = [
    ELIAS,
    ELIAS_ALONE,
    *(
        _ours(f"Elias, K={size}", "EliasClassifier", {"shortlist_size": size})
        for size in (1000, 500)
    ),
]


def taking_part(
    competitors: list[Competitor], only: list[str] | None, folder: Path
) -> list[Competitor]:
    """Return those asked for that can take part, and say why the others cannot."""
    found, n_labels = [], sp.load_npz(folder / "Y_train.npz").shape[1]
    for competitor in chosen(competitors, only):
        reason = why_not(competitor, n_labels)
        if reason:
            print(f"{folder.name}: {competitor.name} is left out: {reason}")
        else:
            found.append(competitor)
    return found


def chosen(competitors: list[Competitor], only: list[str] | None) -> list[Competitor]:
    """Return those asked for by name, or as `ours` or `peers`."""
    if not only:
        return competitors
    groups = {"ours": True, "peers": False}
    known = [competitor.name for competitor in competitors]
    unknown = sorted(set(only) - set(known) - set(groups))
    if unknown:
        raise SystemExit(f"no competitor is called {unknown[0]!r}; there are: {'; '.join(known)}")
    wanted = {groups[name] for name in only if name in groups}
    return [one for one in competitors if one.name in only or one.ours in wanted]


def why_not(competitor: Competitor, n_labels: int) -> str | None:
    """Return the reason why a competitor cannot take part, None if it can."""
    if competitor.max_labels is not None and n_labels > competitor.max_labels:
        return f"{n_labels} labels are too many for it (limit {competitor.max_labels})"
    try:
        if competitor.script in RECIPES:
            python_of(competitor.script)
    except PeerMissing as missing:
        return str(missing)
    return unknown_parameters(competitor) if competitor.ours else None


def unknown_parameters(competitor: Competitor) -> str | None:
    """Tell which parameters an estimator of ours does not have."""
    import skxmc

    estimator = competitor.fit["estimator"]
    known = inspect.signature(getattr(skxmc, estimator)).parameters
    asked = {*competitor.fit, *competitor.load} - {"estimator"}
    unknown = sorted(asked - set(known))
    return f"{estimator} has no parameter {', '.join(unknown)}" if unknown else None
