"""From embeddings to the loss of ELIAS in torch operations: the engine of accelerators.

Nothing here waits for the device. Tests hold `elias_numba` to the same loss and gradients.
"""

import torch
from torch import Tensor

from skxmc.index.cluster_index import cap_log
from skxmc.losses.elias import elias_loss
from skxmc.ops.row_table import CsrBatch
from skxmc.search.shortlist import Shortlist, build_shortlist
from skxmc.training.elias_model import EliasBatch, EliasModel, EliasRates

__all__ = ["losses"]

# Log path score of an entry that only fills a shortlist up.
_NO_PATH = -1e6


def losses(
    model: EliasModel, rates: EliasRates, batch: EliasBatch
) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, mean path cost of the positives, and the share of them the beam alone found.

    Parameters
    ----------
    model : EliasModel
        What is trained.
    rates : EliasRates
        Settings of the stage.
    batch : EliasBatch
        Embeddings and positives of a mini-batch, parents of the labels, and a seed.
    """
    embeddings, pattern, parents, seed = batch
    index, positives = model.index, pattern.on(embeddings.device)
    log_shares = index.log_shares(embeddings)
    # uncapped, as in the search: clusters that are fully on must not tie
    most = int(pattern.lengths().max())
    beam, recall = _beam(log_shares.detach(), positives, most, parents, rates.beam_width)
    beam_scores = cap_log(log_shares.gather(1, beam.clamp(min=0)), index.alpha)
    # all rows of the graph: to count those that take part would wait for the device
    log_weights = index.log_weights()
    keys = log_weights.detach()
    if rates.exploration:
        keys = _explored(keys, index.edges, parents.shape[0], seed, rates.exploration)
    sizes = (parents.shape[0], rates.shortlist_size)
    shortlist = build_shortlist(beam, beam_scores, index.edges, keys, *sizes, positives)
    log_path = _log_path(shortlist, beam, beam_scores, log_weights)
    logits = model.head(embeddings, shortlist.labels)
    positive = shortlist.positive
    if shortlist.found is not None:
        # a path that cannot be costs nothing, neither as a loss nor as a gradient
        positive = positive & shortlist.found
        log_path = log_path.masked_fill(~shortlist.found, _NO_PATH)
    classification, path = elias_loss(
        log_path, logits, positive, shortlist.rows, embeddings.shape[0], model.path_power
    )
    return classification + rates.lambda_shortlist * path, path.detach(), recall


def _explored(log_weights, edges, n_labels: int, seed: int, exploration: float) -> Tensor:
    """Add Gumbel noise, one number a label, to the weights that choose the shortlists.

    Each row's labels are then drawn without replacement in proportion to their path scores.
    Rows of a batch share the noise, so that they draw the same labels where they can: far
    fewer label vectors have to be fetched and updated than if each drew for itself.
    """
    generator = torch.Generator(edges.device).manual_seed(seed)
    wait = torch.empty(n_labels, device=edges.device).exponential_(generator=generator)
    gumbel = wait.clamp_(min=1e-30).log_().mul_(-exploration)
    return gumbel[edges.clamp(min=0)].add_(log_weights)


def _beam(
    log_shares: Tensor, positives: CsrBatch, most: int, parents: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Best clusters of each row plus its positives' parents, ascending; and beam recall.

    `most` is the largest number of positives of a row. Unused places, at the end, are -1.
    """
    n_rows, n_clusters = log_shares.shape
    device = log_shares.device
    best = log_shares.topk(min(width, n_clusters), dim=1).indices
    rows, own = positives.rows(), parents[positives.indices.long()]
    hits = (best[rows] == own[:, None]).any(dim=1).float()
    recall = hits.mean() if hits.numel() else torch.ones((), device=device)
    place = torch.arange(rows.shape[0], device=device) - positives.indptr.long()[rows]
    others = torch.full((n_rows, most), n_clusters, device=device)
    others[rows, place] = own
    beam = torch.cat((best, others), dim=1).sort(dim=1).values
    again = beam[:, 1:] == beam[:, :-1]
    beam[:, 1:] = beam[:, 1:].masked_fill(again, n_clusters)
    beam = beam.sort(dim=1).values
    return beam.masked_fill(beam == n_clusters, -1), recall


def _log_path(shortlist: Shortlist, beam, beam_scores, log_weights) -> Tensor:
    """Log path score of each entry; gradients flow through its winning path only."""
    cluster = beam[shortlist.rows, shortlist.slots]
    return beam_scores[shortlist.rows, shortlist.slots] + log_weights[cluster, shortlist.columns]
