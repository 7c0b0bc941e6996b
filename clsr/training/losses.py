"""Losses: pure functions of tensors, each a mean over what it counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clsr.padding import length_mask
from clsr.vocabulary import BLANK

PART_ROWS = 1024  # of a bank, at a time


def token_cross_entropy(logits: Tensor, targets: Tensor, target_lengths: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the cross entropy of tokens, a mean over all tokens of the batch, in nats.

    Args:
        logits: ``(B, U, V)``.
        targets: ``(B, U)``, anything on padding.
        target_lengths: ``(B,)``.
        smoothing: probability spread evenly over the vocabulary, 0 to 1.
    """
    mask = length_mask(target_lengths, targets.shape[1])
    return F.cross_entropy(logits[mask], targets[mask], label_smoothing=smoothing)


def quantity_loss(quantities: Tensor, target_lengths: Tensor) -> Tensor:
    """Return how far the firing weights are from the number of tokens: ``sum |quantity - U| / sum U``.

    The mean absolute error of CIF (arXiv:1905.11235), per token, so that long utterances do not outweigh
    the other losses. Both arguments are ``(B,)``.
    """
    return (quantities - target_lengths).abs().sum() / target_lengths.sum()


def mwer_loss(log_probabilities: Tensor, errors: Tensor) -> Tensor:
    """Return the minimum word error rate loss of listed candidates, a mean over utterances, in word errors.

    With candidates ``y_i``, their word errors ``W_i`` and the mean of these ``W`` (CLSR and Paraformer,
    arXiv:2206.08317; Prabhavalkar et al., arXiv:1712.01818)::

        L = sum_i P(y_i) / sum_j P(y_j) (W_i - W)

    Where the candidates are all transcripts there are, its gradient is that of the expected word errors. Of a part
    it is not: ``sampled_mwer_loss`` has no such bias.

    Args:
        log_probabilities: of whole candidates, ``(B, N)``; minus infinity takes a candidate (a double, say) out.
        errors: word errors of each, ``(B, N)``.
    """
    kept = log_probabilities > -torch.inf
    mean = (errors * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
    shares = log_probabilities.softmax(1)
    return (shares * (errors - mean)).sum(1).mean()


def sampled_mwer_loss(log_probabilities: Tensor, errors: Tensor) -> Tensor:
    """Return a loss whose gradient is an unbiased estimate of that of the expected word errors, a mean over utterances.

    Candidates are drawn independently from the model, doubles included; each is compared with the mean of the others,
    which comes to a factor ``N / (N - 1)`` before the mean of all (REINFORCE, Williams 1992)::

        L = 1 / (N - 1) sum_i (W_i - W) log P(y_i)

    Its value means nothing.

    Args:
        log_probabilities: of whole candidates, ``(B, N)``, N at least 2.
        errors: word errors of each, ``(B, N)``.
    """
    above = errors - errors.mean(1, keepdim=True)
    return (above * log_probabilities).sum(1).mean() / (errors.shape[1] - 1)


def ctc_loss(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return the connectionist temporal classification loss (Graves et al. 2006), per unit of text, in nats.

    An utterance with more units than predictions has no alignment; it adds nothing.

    Args:
        logits: ``(B, T, C)``, index 0 being the blank.
        frame_lengths: ``(B,)``.
        targets: units, ``(B, S)``.
        target_lengths: ``(B,)``.
    """
    log_probabilities = logits.log_softmax(2).transpose(0, 1)
    total = F.ctc_loss(
        log_probabilities, targets, frame_lengths, target_lengths, BLANK, reduction="sum", zero_infinity=True
    )
    return total / target_lengths.sum()


def contrastive_loss(similarity: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Return the negative log likelihood of the right candidate of each row, a mean over rows, in nats.

    Args:
        similarity: cosines of queries with candidates, ``(B, P)``; minus infinity takes a candidate out.
        own: column of the right candidate, ``(B,)``.
        temperature: divisor of the cosines, above 0.
    """
    return F.cross_entropy(similarity / temperature, own)


def batch_nll(speech: Tensor, questions: Tensor, temperature: float, groups: Tensor | None = None) -> Tensor:
    """Return the symmetric NLL of CLSR over the pairs of a batch: half passage to question, half the other way.

    Args:
        speech: unit vectors of spoken passages, ``(B, E)``.
        questions: unit vectors, ``(B, E)``, row ``i`` belonging to row ``i`` of ``speech``.
        temperature: divisor of the cosines, above 0.
        groups: ``(B,)``; pairs of one group share a passage, so that what is right for one is not wrong for another.
    """
    own = torch.arange(len(speech), device=speech.device)
    shared = _shared(own if groups is None else groups, own if groups is None else groups, own)
    similarity = cosines(speech, questions).masked_fill(shared, -torch.inf)
    return (contrastive_loss(similarity, own, temperature) + contrastive_loss(similarity.T, own, temperature)) / 2


def bank_nll(speech: Tensor, own: Tensor, questions: Tensor, passages: Tensor, temperature: float,
             groups: Tensor | None = None, spoken: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the symmetric NLL against all frozen questions and gold passages of the training set.

    Question to passage: each question of the batch against its spoken passages and the text of every other passage.
    Passage to question: each spoken passage against every typed question; or, where questions are spoken, against those
    of the batch and the text of every other question, so that both directions are alike.

    Args:
        speech: unit vectors of spoken passages, ``(B, E)``.
        own: row of each one's question and gold passage in the bank, ``(B,)``; a row may occur twice.
        questions: unit vectors of all questions, ``(N, E)``, row ``i`` belonging to passage ``i``.
        passages: unit vectors of all passage texts, ``(N, E)``.
        temperature: divisor of the cosines, above 0.
        groups: ``(N,)``; rows of one group share a passage, so that what is right for one is not wrong for another.
        spoken: unit vectors of the recorded questions, ``(B, E)``, row by row as ``speech``; None where they are typed.
    """
    groups = torch.arange(len(questions), device=own.device) if groups is None else groups
    if spoken is not None:
        to_question = _nll_among_speech(speech, spoken, questions, own, groups, temperature)
    else:
        in_bank = _shared(groups[own], groups, own)
        to_question = contrastive_loss(cosines(speech, questions).masked_fill(in_bank, -torch.inf), own, temperature)
    queries = questions[own] if spoken is None else spoken
    return (to_question + _nll_among_speech(queries, speech, passages, own, groups, temperature)) / 2


def _nll_among_speech(
    queries: Tensor, speech: Tensor, texts: Tensor, own: Tensor, groups: Tensor, temperature: float
) -> Tensor:
    """Return the NLL of queries ``(B, E)`` among what is spoken in the batch and the text of all else, ``(N, E)``."""
    positions = torch.arange(len(own), device=own.device)
    in_batch = cosines(queries, speech).masked_fill(_shared(groups[own], groups[own], positions), -torch.inf)
    in_bank = cosines(queries, texts).masked_fill(_shared(groups[own], groups, own), -torch.inf)
    in_bank = in_bank.index_fill(1, own, -torch.inf)  # what is in the batch is speech there, not text
    return contrastive_loss(torch.cat([in_batch, in_bank], 1), positions, temperature)


def score_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return how far a student's choice among passages is from its teacher's, a mean over questions, in nats.

    Both choose by the softmax of their cosines divided by the temperature; with ``t`` and ``s`` these distributions of
    a question, it is the Kullback-Leibler divergence ``sum_p t[p] log(t[p] / s[p])`` (SpeechDPR, Lin et al. 2024). No
    passage is named as the right one, and the teacher takes no gradient.

    Args:
        student: cosines of questions with passages, ``(Q, P)``.
        teacher: the same of another system, ``(Q, P)``.
        temperature: divisor of the cosines, above 0.
    """
    wanted = (teacher.detach() / temperature).log_softmax(1)
    return F.kl_div((student / temperature).log_softmax(1), wanted, reduction="batchmean", log_target=True)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return inner products ``(A, B)`` in float32: bfloat16 would tell cosines apart by hundredths only.

    A batch meets its bank part by part on a CPU, whose matrix library shares the parts out to its threads; a product of
    a dozen rows with 100,000 in one piece takes it twice as long, and so does the gradient.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float(), b.float()
        count = len(b) // PART_ROWS if a.device.type == "cpu" else 0
        parts, rest = b[: count * PART_ROWS].unflatten(0, (count, PART_ROWS)), b[count * PART_ROWS :]
        by_part = torch.bmm(a.expand(count, -1, -1), parts.transpose(1, 2))  # (count, A, PART_ROWS)
        return torch.cat([by_part.transpose(0, 1).flatten(1), a @ rest.T], 1)


def _shared(rows: Tensor, columns: Tensor, own: Tensor) -> Tensor:
    """Mark the columns that are of a row's group without being its own, ``(B, P)``."""
    same = rows[:, None] == columns[None]
    return same.scatter(1, own[:, None], False)
