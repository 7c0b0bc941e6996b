"""Speech to text: encoder, CIF, sampler and decoder in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clsr.audio.features import Cmvn
from clsr.config import ModelConfig
from clsr.models.cif import Cif, FiringError, add_tail, firing_times, integrate_and_fire, merge_repeats, scale_to
from clsr.models.decoder import SanmDecoder
from clsr.models.encoder import SanmEncoder
from clsr.models.frontend import STACK, make_frontend, unstack
from clsr.models.sampler import sample
from clsr.models.whisper import WhisperDecoder
from clsr.padding import length_mask
from clsr.vocabulary import BLANK, Vocabulary


class TrainingOutput(NamedTuple):
    """What the losses need."""

    logits: Tensor  # (B, U, V), of the second pass where the sampler is on
    first_pass: Tensor  # (B, U), best tokens before the sampler
    token_lengths: Tensor  # (B,), firings; as many as right tokens unless the settings say more
    quantities: Tensor  # (B,), tokens that the unscaled firing weights announce
    ctc_logits: Tensor | None  # (B, upsampling * T, C)


class DecoderOutput(NamedTuple):
    """What the decoder recognises."""

    tokens: Tensor  # (B, U, K), output indices, best first
    log_probabilities: Tensor  # (B, U, K), theirs
    token_lengths: Tensor  # (B,)
    times: Tensor  # (B, U, 2), begin and end of each token in frames
    states: Tensor  # (B, U, D), what `Paraformer.logits` takes
    scores: Tensor  # (B,), log probability of this number of tokens and its best transcript, up to a constant


LEAST_QUANTITY = 1e-6  # firing weights that announce fewer tokens are those of silence: no hypothesis has a token
BEST = 8  # outputs kept of each token: enough for mixtures of three and lists of eight transcripts


class CtcHead(nn.Module):
    """Linear map from frames to CTC logits, with ``upsampling`` predictions a frame."""

    def __init__(self, width: int, size: int, upsampling: int):
        super().__init__()
        self.upsampling = upsampling
        self.ctc_lo = nn.Linear(width, size * upsampling)

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames ``(B, T, D)`` to logits ``(B, upsampling * T, C)``."""
        return self.ctc_lo(frames).unflatten(2, (self.upsampling, -1)).flatten(1, 2)


class Paraformer(nn.Module):
    """Non-autoregressive recogniser (Gao et al., arXiv:2206.08317), parameters named as in FunASR.

    Args:
        config: sizes of all parts.
        vocabulary_size: size of the output layer, V.
        ctc_size: size of the auxiliary CTC output, blank included; 0 for none.
        never: output indices that are never recognised: padding and unknown, but for releases with tokens of their own.
    """

    def __init__(
        self, config: ModelConfig, vocabulary_size: int, ctc_size: int = 0, never: Sequence[int] = Vocabulary.never
    ):
        super().__init__()
        self.config = config
        self.never = list(never)
        width = config.encoder.width
        self.frontend = make_frontend(config)
        self.cmvn = Cmvn(self.frontend.size)
        self.encoder = SanmEncoder(self.frontend.size, config.encoder)
        self.predictor = Cif(width, config.cif)
        self.decoder: SanmDecoder | WhisperDecoder
        if config.decoder.kind == "whisper":
            self.decoder = WhisperDecoder(vocabulary_size, width, config.whisper)
        else:
            self.decoder = SanmDecoder(vocabulary_size, width, config.decoder)
        self.ctc = CtcHead(width, ctc_size, config.ctc.upsampling) if ctc_size else None

    def forward(
        self,
        features: Tensor,
        frame_lengths: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        outputs: Tensor | None = None,
    ) -> TrainingOutput:
        """Train: the firing weights are scaled to the true number of tokens, and the sampler may help.

        Args:
            features: stacked features, ``(B, T, F)``.
            frame_lengths: ``(B,)``.
            targets: right tokens, ``(B, U)``, any value on padding.
            target_lengths: ``(B,)``, at least 1.
            outputs: rows of the output layer to make logits of, ``(C,)``, in place of all; ``targets``, and what is
                returned, are then positions in this list.

        Raises:
            FiringError: the firing weights make no tokens.
        """
        rows = self.frontend(features, frame_lengths)
        frames, frame_mask = self.encoder(self.cmvn(rows), frame_lengths)
        weights = self.predictor(frames, frame_mask)
        threshold = self.config.cif.threshold
        firings = self._firings(target_lengths)
        tokens, fired = integrate_and_fire(frames, scale_to(weights, firings, threshold), threshold)
        if not fired.all() or tokens.shape[1] != firings.max():  # no scale makes tokens of weights that are 0
            raise FiringError("the firing weights of an utterance are 0")
        token_mask = length_mask(firings, tokens.shape[1])
        memory = self._memory(rows, frames, frame_mask)
        if self.training and self.config.sampler.ratio > 0 and not self._merges:
            with torch.no_grad():
                first_pass = self._logits(self.decoder.states(tokens, token_mask, *memory), outputs).argmax(2)
            states = self._second_pass(tokens, token_mask, memory, first_pass, targets, outputs)
            logits = self._logits(states, outputs)
        else:
            logits = self._logits(self.decoder.states(tokens, token_mask, *memory), outputs)
            first_pass = logits.detach().argmax(2)
        ctc_logits = self.ctc(frames) if self.ctc is not None and self.training else None
        return TrainingOutput(logits, first_pass, firings, weights.sum(1) / threshold, ctc_logits)

    @property
    def _merges(self) -> bool:
        """Whether there are more firings than tokens, so that outputs are merged."""
        return self.config.cif.firings_per_token > 1

    def _firings(self, token_lengths: Tensor) -> Tensor:
        """Return how often to fire for so many tokens, ``(B,)``: with room for a blank at both ends."""
        if not self._merges:
            return token_lengths
        return torch.maximum((token_lengths * self.config.cif.firings_per_token).ceil(), token_lengths + 2).long()

    def _memory(self, rows: Tensor, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the decoder looks at, and its mask: the encoder's frames, or those of the release."""
        if isinstance(self.decoder, SanmDecoder):
            return frames, frame_mask
        return unstack(rows).to(frames.dtype), frame_mask.repeat_interleave(STACK, 1)

    def _logits(self, states: Tensor, outputs: Tensor | None) -> Tensor:
        """Return the logits ``(B, U, V)`` of states ``(B, U, D)``, or those of the listed outputs, ``(B, U, C)``."""
        layer = self.decoder.output_layer
        if outputs is None:
            return layer(states)
        return F.linear(states, layer.weight[outputs], None if layer.bias is None else layer.bias[outputs])

    def _second_pass(
        self,
        tokens: Tensor,
        token_mask: Tensor,
        memory: tuple[Tensor, Tensor],
        first_pass: Tensor,
        targets: Tensor,
        outputs: Tensor | None,
    ) -> Tensor:
        """Return the states of the pass that is shown some of the right tokens."""
        # Rows of the output layer are the text embeddings: the decoder has no trained embedding of its own.
        embeddings = self.decoder.output_layer.weight[targets if outputs is None else outputs[targets]]
        sampler = self.config.sampler
        if isinstance(self.decoder, SanmDecoder):
            tokens = sample(tokens, embeddings, first_pass, targets, token_mask, sampler)
            return self.decoder.states(tokens, token_mask, *memory)
        acoustic = self.decoder.token_map(tokens)
        read = sample(acoustic, embeddings.to(acoustic.dtype), first_pass, targets, token_mask, sampler)
        return self.decoder.states(tokens, token_mask, *memory, read)

    def recognise(self, features: Tensor, frame_lengths: Tensor) -> DecoderOutput:
        """Recognise stacked features ``(B, T, F)``: the likeliest length hypothesis."""
        hypotheses = self.length_hypotheses(features, frame_lengths)
        best = hypotheses.scores.argmax(0)  # the first of equals
        chosen = DecoderOutput(*(values[best, torch.arange(len(best), device=best.device)] for values in hypotheses))
        length = int(chosen.token_lengths.max())
        return DecoderOutput(*(values[:, :length] if values.dim() > 1 else values for values in chosen))

    def length_hypotheses(self, features: Tensor, frame_lengths: Tensor) -> DecoderOutput:
        """Recognise stacked features ``(B, T, F)`` once for each number of tokens that the firing weights may mean.

        Most word errors of a recogniser of this kind come from a number that is off by one, and the decoder knows
        better than the sum of the weights: with a word too few or too many, the others do not fit either. So, with
        ``q`` the quantity, ``r`` its rounded value and ``m`` the setting ``length_margin``, every number ``n`` from
        ``r - m`` to ``r + m`` is decoded, ``r`` first, and scored by::

            score(n) = r * mean_u max_v log p(v | u, n) - (n - q)^2 / 2

        The mean over tokens does not favour short hypotheses; the second term takes the number to be
        normally distributed about the quantity, with a standard deviation of one token. No number below
        one is tried beside another.

        Returns:
            An output whose fields have one more axis in front: the number of hypotheses, H.
        """
        length_margin = self.config.cif.length_margin if self.config.cif.ending == "scale" else 0
        return self._hypotheses(features, frame_lengths, length_margin, self._merges)

    def firings(self, features: Tensor, frame_lengths: Tensor) -> DecoderOutput:
        """Return the best outputs of each firing of stacked features ``(B, T, F)``, repeats and blanks included."""
        return DecoderOutput(*(values[0] for values in self._hypotheses(features, frame_lengths, 0, merge=False)))

    def _hypotheses(self, features: Tensor, frame_lengths: Tensor, length_margin: int, merge: bool) -> DecoderOutput:
        """Return the length hypotheses of numbers up to ``length_margin`` away, one more axis in front."""
        config = self.config.cif
        rows = self.frontend(features, frame_lengths)
        frames, frame_mask = self.encoder(self.cmvn(rows), frame_lengths)
        weights = self.predictor(frames, frame_mask)
        quantities = weights.sum(1) / config.threshold * config.firings_per_token
        rounded = quantities.round()
        offsets = torch.tensor(sorted(range(-length_margin, length_margin + 1), key=abs), device=weights.device)[
            :, None
        ]
        count = len(offsets)
        if config.ending == "tail":
            fired, firing = add_tail(frames, weights, frame_lengths, config.tail)
        else:  # boundaries then lie as in training, where the true number is what the weights are scaled to
            numbers = (rounded + offsets).clamp(min=0) * (quantities >= LEAST_QUANTITY)
            numbers = numbers.T.flatten()  # (B * H,): those of an utterance in a row
            fired = frames.repeat_interleave(count, 0)
            weights = firing = scale_to(weights.repeat_interleave(count, 0), numbers, config.threshold)
        tokens, token_lengths = integrate_and_fire(fired, firing, config.threshold)
        times = firing_times(weights, tokens.shape[1], config.threshold)
        times = times.clamp(max=frame_lengths.repeat_interleave(count)[:, None, None].to(times.dtype))
        memory = self._memory(rows, frames, frame_mask)
        outputs, values, states = self._best_tokens(tokens, token_lengths, *memory)
        mean = values[:, :, 0].sum(1) / token_lengths.clamp(min=1)
        distances = (token_lengths.view(-1, count).T - quantities) ** 2 / 2
        if merge:
            merged = merge_repeats(outputs, values, token_lengths, times)
            outputs, values, token_lengths, times = merged[:4]
            states = states.gather(1, merged.firings[:, :, None].expand(-1, -1, states.shape[2]))
        output = DecoderOutput(
            *(
                x.unflatten(0, (-1, count)).transpose(0, 1)
                for x in (outputs, values, token_lengths, times, states, mean)
            )
        )
        scores = rounded * output.scores - distances
        return output._replace(scores=scores.masked_fill((offsets != 0) & (rounded + offsets < 1), -torch.inf))

    def _best_tokens(
        self, tokens: Tensor, token_lengths: Tensor, frames: Tensor, frame_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best outputs of tokens ``(B * H, U, D)`` and their log probabilities, ``(B * H, U, K)`` each.

        Padding has output 0 with log probability 0, the same for all of K. Third are the states that they are made of,
        ``(B * H, U, D)``.
        """
        mask = length_mask(token_lengths, tokens.shape[1])
        size = (*mask.shape, min(BEST, self.decoder.output_layer.out_features))
        never = [i for i in self.never if i != BLANK] if self._merges else self.never
        found = frames.new_zeros(size, dtype=torch.long), frames.new_zeros(size, dtype=torch.float32)
        if not mask.any():  # nothing but silence
            return *found, frames.new_zeros(*mask.shape, self.decoder.output_layer.in_features)
        states = self.decoder.states(tokens, mask, frames, frame_mask)
        for values, of_tokens in zip(found, self.decoder.best(states[mask], BEST, never), strict=True):
            values[mask] = of_tokens
        return *found, states

    def logits(self, states: Tensor) -> Tensor:
        """Return the logits ``(B, U, V)`` of the states that a recognition keeps, ``(B, U, D)``."""
        return self._logits(states, None)
