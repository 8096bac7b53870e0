"""Two models on the tokens of one window: cross-entropy, KL divergence, top-1 agreement, and the tokens that suffered most.

Protocol: consecutive windows of L tokens; in each, the L - 1 next-token predictions. Logits are asked for in tiles of tokens
and vocabulary, so that no more than CHUNK_LOGITS of them exist at once, and a head's weights are read once for many tokens.
Shapes: L = window, N = L - 1 predictions, n = predictions of one chunk, V = vocabulary, v = vocabulary of a tile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from compression.budgets import CHUNK_LOGITS
from compression.errors import NumericalError

WORST_IN_WINDOW = 5
CHUNK_TOKENS = 512
PANEL = 64  # of which a tile is a multiple: processors multiply such at full speed
NEIGHBOURS = 64  # that are added up in float32; the sums are in float64
RULED_OUT = -1e30  # the least that logits are shifted by: one of -inf has probability 0 even where all are

Head = Callable[[Tensor, slice], Tensor]  # hidden states (1, n, D), part of the vocabulary -> logits (1, n, v)
Logits = Callable[[slice, slice], Tensor]
"""Places of tokens, part of the vocabulary -> logits (n, v) of what follows them, which the caller may overwrite."""


@dataclass(frozen=True)
class TokenChange:
    """One token under both models.

    Args:
        position: in the window, from 0.
        dense, compressed: its loss in nats.
        dense_choice, compressed_choice: ids of the tokens ranked first.
    """

    position: int
    dense: float
    compressed: float
    kl: float
    dense_choice: int
    compressed_choice: int


@dataclass(frozen=True)
class WindowScore:
    """Means over the predicted tokens of one window, cross-entropies and KL in nats.

    Args:
        kl_N: KL of each prediction, float32 on the host: 4 bytes a token are kept until the text is summed up.
        worst: the tokens whose loss rose most, the worst first.
    """

    dense: float
    compressed: float
    kl: float
    agreement: float
    kl_N: Tensor = field(default_factory=lambda: torch.empty(0), compare=False, repr=False)
    worst: tuple[TokenChange, ...] = ()


def score_window(
    ids_L: Tensor,
    dense_1LD: Tensor,
    compressed_1LD: Tensor,
    head: Head,
    vocab_size: int,
    *,
    compressed_head: Head | None = None,
) -> WindowScore:
    """Score one window from both models' last hidden states.

    Args: compressed_head: of the compressed model, where it is not the dense one's.
    """
    other_head = compressed_head or head
    return compare_window(
        ids_L,
        lambda places, part: head(dense_1LD[:, places], part)[0],
        lambda places, part: other_head(compressed_1LD[:, places], part)[0],
        vocab_size,
    )


def compare_window(ids_L: Tensor, dense: Logits, compressed: Logits, vocab_size: int) -> WindowScore:
    """Score one window from both models' logits.

    Raises: NumericalError: a model's predictions are not finite.
    """
    chunks = [
        _compare(dense, compressed, places, ids_L[places.start + 1 : places.stop + 1], vocab_size) for places in _chunks(ids_L)
    ]
    losses_N, compressed_N, kl_N, choices_N, compressed_choices_N = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    for name, values_N in (("dense", losses_N), ("compressed", compressed_N), ("compressed", kl_N)):
        _require_finite(name, values_N)
    increase_N = compressed_N - losses_N
    worst = increase_N.argsort(descending=True, stable=True)[:WORST_IN_WINDOW]
    return WindowScore(
        dense=_mean(losses_N),
        compressed=_mean(compressed_N),
        kl=_mean(kl_N),
        agreement=_mean(choices_N == compressed_choices_N),
        kl_N=kl_N.float(),
        worst=tuple(
            TokenChange(
                position=n + 1,
                dense=float(losses_N[n]),
                compressed=float(compressed_N[n]),
                kl=float(kl_N[n]),
                dense_choice=int(choices_N[n]),
                compressed_choice=int(compressed_choices_N[n]),
            )
            for n in worst.tolist()
        ),
    )


def loss_of_window(ids_L: Tensor, logits: Logits, vocab_size: int) -> float:
    """Mean cross-entropy of one model on one window, in nats. Raises: NumericalError."""
    losses = []
    for places in _chunks(ids_L):
        model = _Predictions(ids_L[places.start + 1 : places.stop + 1])
        for part in _parts(places, vocab_size):
            model.take(logits(places, part).float(), part)
        losses.append(model.losses_n.cpu())
    losses_N = torch.cat(losses)
    _require_finite("evaluated", losses_N)
    return _mean(losses_N)


def _chunks(ids_L: Tensor) -> Iterator[slice]:
    """Places of the tokens that predict the next one."""
    predicted = len(ids_L) - 1
    for first in range(0, predicted, CHUNK_TOKENS):
        yield slice(first, min(first + CHUNK_TOKENS, predicted))


def _parts(places: slice, vocab_size: int) -> Iterator[slice]:
    size = max(1, CHUNK_LOGITS // (places.stop - places.start))
    size -= size % PANEL if size > PANEL else 0
    for begin in range(0, vocab_size, size):
        yield slice(begin, min(begin + size, vocab_size))


class _Predictions:
    """What one model says of n tokens, its logits being taken in part by part of the vocabulary.

    Attributes: shift_n: the largest logit so far. choices_n: the token that has it. sum_n: of exp(logit - shift), float64.
    """

    def __init__(self, targets_n: Tensor) -> None:
        self._targets_n = targets_n
        self.shift_n, self.choices_n = torch.tensor(RULED_OUT), torch.tensor(0)  # of all tokens, wherever the logits will be
        self.sum_n = torch.tensor(0.0, dtype=torch.float64)
        self._target_n = torch.tensor(-torch.inf)  # logits of the targets

    def take(self, logits_nv: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Take in a tile, which is overwritten.

        Returns: exp(logit - shift) (n, v); and the factor (n,) by which all such numbers of before are too large.
        """
        most_n, at_n = logits_nv.max(-1)
        is_larger_n = most_n > self.shift_n
        self.choices_n = torch.where(is_larger_n, at_n + part.start, self.choices_n)
        shift_n = torch.where(is_larger_n | most_n.isnan(), most_n, self.shift_n)
        factor_n = (self.shift_n - shift_n).exp_().double()
        at_target_n = self._targets_n.to(logits_nv.device) - part.start
        nearest_n = at_target_n.clamp(0, logits_nv.shape[-1] - 1)
        target_n = logits_nv.gather(1, nearest_n[:, None])[:, 0]
        self._target_n = torch.where(at_target_n == nearest_n, target_n, self._target_n)
        exp_nv = logits_nv.sub_(shift_n[:, None]).exp_()
        self.sum_n = self.sum_n * factor_n + _sum(exp_nv)
        self.shift_n = shift_n
        return exp_nv, factor_n

    @property
    def log_sum_n(self) -> Tensor:
        """log sum exp of all logits, float64."""
        return self.sum_n.log() + self.shift_n

    @property
    def losses_n(self) -> Tensor:
        """Cross-entropy of each target, in nats, float64."""
        return self.log_sum_n - self._target_n


def _compare(dense: Logits, compressed: Logits, places: slice, targets_n: Tensor, vocab_size: int) -> tuple[Tensor, ...]:
    """Losses of both, KL, and what both rank first; each (n,) on the host.

    With log p = z_p - log sum exp z_p: sum p (log p - log q) = sum p (z_p - z_q) - log sum exp z_p + log sum exp z_q, of which
    the first sum is added up as logits come. Where both models say the same it is 0 to the last bit.
    """
    one, other, apart_n = _Predictions(targets_n), _Predictions(targets_n), torch.tensor(0.0, dtype=torch.float64)
    for part in _parts(places, vocab_size):
        dense_nv, compressed_nv = dense(places, part).float(), compressed(places, part).float()
        apart_nv = dense_nv - compressed_nv
        weight_nv, factor_n = one.take(dense_nv, part)
        other.take(compressed_nv, part)
        more_n = _sum(apart_nv.mul_(weight_nv))
        if not torch.isfinite(more_n).all():  # a token that both rule out altogether adds nothing: 0 * (-inf + inf)
            more_n = _sum(apart_nv.masked_fill_(weight_nv == 0, 0.0))
        apart_n = apart_n * factor_n + more_n
        del dense_nv, compressed_nv, apart_nv, weight_nv  # the next tile is made in their memory
    kl_n = apart_n / one.sum_n - one.log_sum_n + other.log_sum_n
    return tuple(values.cpu() for values in (one.losses_n, other.losses_n, kl_n, one.choices_n, other.choices_n))


def _sum(values_nv: Tensor) -> Tensor:
    """(n,) in float64, of sums over few neighbours in float32: on a CPU torch's sum in float64 takes twenty times as long."""
    panels = values_nv.shape[-1] // NEIGHBOURS
    rest_nv = values_nv[:, panels * NEIGHBOURS :]
    sums_nP: Tensor = values_nv[:, : panels * NEIGHBOURS].unflatten(-1, (panels, NEIGHBOURS)).sum(-1)
    return sums_nP.sum(-1, dtype=torch.float64) + rest_nv.sum(-1, dtype=torch.float64)


def _mean(values_N: Tensor) -> float:
    return float(values_N.double().mean())


def _require_finite(model: str, values_N: Tensor) -> None:
    if not torch.isfinite(values_N).all():
        raise NumericalError("head", f"the {model} model's predictions are not finite numbers; its weights are ruined")
