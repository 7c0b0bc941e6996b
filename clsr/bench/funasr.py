"""FunASR's recogniser to be timed, with the weights of one of ours: its modules, and their ONNX export."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clsr.audio.features import FEATURE_SIZE, MEL_BINS, STACK, STRIDE
from clsr.audio.waveform import SAMPLE_RATE
from clsr.bench.timing import quiet, threads
from clsr.models.paraformer import Paraformer
from clsr.models.recogniser import batches
from clsr.padding import length_mask, pad

OPSET = 14  # of ONNX, FunASR's default


class FunasrTranscriber:
    """FunASR's front end, encoder, predictor and decoder, with the weights of one of our recognisers.

    Batches are ours, so that no time is lost to padding that we save. It decodes one number of tokens, ours three.
    """

    def __init__(self, paraformer: Paraformer):
        from funasr.frontends.wav_frontend import WavFrontend
        from funasr.models.paraformer.cif_predictor import CifPredictorV2
        from funasr.models.paraformer.decoder import ParaformerSANMDecoder
        from funasr.models.sanm.encoder import SANMEncoder

        config = paraformer.config
        width, encoder, decoder, cif = config.encoder.width, config.encoder, config.decoder, config.cif
        self.cmvn = paraformer.cmvn
        self.never = paraformer.never
        self.frontend = WavFrontend(fs=SAMPLE_RATE, n_mels=MEL_BINS, lfr_m=STACK, lfr_n=STRIDE, dither=0.0)
        self.encoder = SANMEncoder(
            FEATURE_SIZE, width, encoder.heads, encoder.hidden, encoder.layers, input_layer="pe",
            kernel_size=encoder.kernel, selfattention_layer_type="sanm",
        )  # fmt: skip
        self.predictor = CifPredictorV2(
            width, cif.left_context, cif.right_context, cif.threshold, tail_threshold=cif.tail
        )
        self.decoder = ParaformerSANMDecoder(
            paraformer.decoder.output_layer.out_features, width, decoder.heads, decoder.hidden, decoder.layers,
            att_layer_num=decoder.layers, kernel_size=decoder.kernel, wo_input_layer=True,
        )  # fmt: skip
        for name in ("encoder", "predictor", "decoder"):
            module = getattr(self, name).eval()
            module.load_state_dict(getattr(paraformer, name).state_dict())

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the best token at each position of each waveform."""
        features = self.features(waveforms)
        ids: list[list[int]] = [[] for _ in waveforms]
        for batch in batches([len(rows) for rows in features]):
            rows, lengths = pad([features[i] for i in batch])
            logits, counts = self.recognise(self.cmvn(rows), lengths)
            logits[..., self.never] = -torch.inf
            for i, best, count in zip(batch, logits.argmax(2).tolist(), counts.tolist()):
                ids[i] = best[:count]
        return ids

    def features(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Return stacked features ``(T, 560)`` of each waveform ``(N,)``."""
        found = (self.frontend(torch.from_numpy(w)[None], torch.tensor([len(w)])) for w in waveforms)
        return [rows[0] for rows, _ in found]

    def recognise(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return token logits ``(B, U, V)`` and lengths ``(B,)`` of normalised features ``(B, T, 560)``."""
        frames, _, _ = self.encoder(features, frame_lengths)
        tokens, counts, _, _ = self.predictor(frames, None, length_mask(frame_lengths, frames.shape[1])[:, None])
        counts = counts.round().long()
        return self.decoder(frames, frame_lengths, tokens, counts)[0], counts


class FunasrOnnxTranscriber(FunasrTranscriber):
    """FunASR's ONNX export of the same, quantised to int8 as FunASR does it, run by ONNX Runtime.

    Args:
        modules: what to export.
    """

    def __init__(self, modules: FunasrTranscriber):
        from onnxruntime import InferenceSession, SessionOptions

        self.cmvn, self.never, self.frontend = modules.cmvn, modules.never, modules.frontend
        options = SessionOptions()
        options.intra_op_num_threads = threads()
        with TemporaryDirectory() as folder:
            path = export_int8(modules, Path(folder))
            self.session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def recognise(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return token log probabilities ``(B, U, V)`` and lengths ``(B,)`` of normalised features ``(B, T, 560)``."""
        inputs = {"speech": features.numpy(), "speech_lengths": frame_lengths.int().numpy()}
        logits, counts = self.session.run(None, inputs)
        return torch.from_numpy(logits), torch.from_numpy(counts)


def export_int8(modules: FunasrTranscriber, folder: Path) -> Path:
    """Write FunASR's export of its modules, with int8 weights, into a folder; return the file.

    These are the steps of ``funasr.utils.export_utils.export(quantize=True)``, with its settings. To call it is no
    use: it leaves the choice of the exporter to torch, whose present choice cannot follow FunASR's predictor.
    """
    import onnx
    from funasr.models.paraformer.export_meta import export_rebuild_model
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model: Any = nn.Module()
    model.encoder, model.predictor, model.decoder = map(
        copy.deepcopy, (modules.encoder, modules.predictor, modules.decoder)
    )
    export_rebuild_model(model, encoder="SANMEncoder", predictor="CifPredictorV2", decoder="ParaformerSANMDecoder",
                         max_seq_len=512, device="cpu")  # fmt: skip
    whole, quantised = folder / "model.onnx", folder / "model_quant.onnx"
    with quiet():
        torch.onnx.export(
            model.eval(), model.export_dummy_inputs(), str(whole), opset_version=OPSET, do_constant_folding=True,
            input_names=model.export_input_names(), output_names=model.export_output_names(),
            dynamic_axes=model.export_dynamic_axes(), dynamo=False,
        )  # fmt: skip
        names = [node.name for node in onnx.load(whole).graph.node]
        kept = [name for name in names if "output" in name or "bias_encoder" in name or "bias_decoder" in name]
        quantize_dynamic(
            whole, quantised, op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=False,
            weight_type=QuantType.QUInt8, nodes_to_exclude=kept,
        )  # fmt: skip
    return quantised
