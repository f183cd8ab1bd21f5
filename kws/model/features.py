"""The first layer of the model: waveforms in, log-mel filter banks out."""

import torch
from torch import Tensor, nn

from kws.data.torchaudio_import import torchaudio

LOG_OFFSET = 1e-6  # keeps silence finite: log(0 + 1e-6) = -13.8
PAD_MODES = ("reflect", "constant", "replicate", "circular")  # torch.stft's


class LogMelFilterBanks(nn.Module):
    """log(mel spectrogram + 1e-6) of waveforms, as a layer.

    Equals `torch.log(torchaudio.transforms.MelSpectrogram(...)(x) + 1e-6)` within `torch.allclose`'s defaults.
    `hann_window` and `mel_filters` (n_fft // 2 + 1, n_mels) are buffers: they move with `.to()`, and stay out of the
    state dict because the arguments determine them.

    Args: as in torch.stft and torchaudio.functional.melscale_fbanks; `f_max_hz` None means samplerate // 2, `norm_mel`
    is None or "slaney", `power` the exponent of the magnitude (1.0 amplitude, 2.0 power). `normalize_stft` is
    torchaudio's `normalized`: True or "window" divides by the window's norm, "frame_length" by sqrt(n_fft). `onesided`
    and `return_complex` are torch.stft's; they change the spectrum's internal form, not the result.

    torch.export (with a batch of any size), torch.jit.script, torch.jit.trace and torch.func's vmap and grad work.

    Raises ValueError where the arguments define no filter bank or name an unknown padding or normalisation.
    """

    hann_window: Tensor
    mel_filters: Tensor

    def __init__(
        self,
        n_fft: int = 400,
        samplerate: int = 16000,
        hop_length: int = 160,
        n_mels: int = 80,
        pad_mode: str = "reflect",
        power: float = 2.0,
        normalize_stft: bool | str = False,
        onesided: bool = True,
        center: bool = True,
        return_complex: bool = True,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
        norm_mel: str | None = None,
        mel_scale: str = "htk",
    ) -> None:
        super().__init__()
        if n_fft < 1 or hop_length < 1 or n_mels < 1 or samplerate <= 0:
            raise ValueError("n_fft, hop_length, n_mels and samplerate must be positive")
        if not power or power <= 0:
            raise ValueError("power must be a positive number: a complex spectrum has no mel filter banks")
        if normalize_stft not in (False, True, "window", "frame_length"):
            raise ValueError(f"normalize_stft must be False, True, 'window' or 'frame_length', not {normalize_stft!r}")
        if pad_mode not in PAD_MODES:
            raise ValueError(f"pad_mode must be one of {', '.join(PAD_MODES)}, not {pad_mode!r}")
        f_max_hz = float(samplerate // 2) if f_max_hz is None else f_max_hz
        if not 0 <= f_min_hz < f_max_hz:
            raise ValueError(f"f_min_hz must be at least 0 and less than f_max_hz ({f_max_hz}), not {f_min_hz}")
        self.n_fft, self.samplerate, self.hop_length, self.n_mels = n_fft, samplerate, hop_length, n_mels
        self.pad_mode, self.power = pad_mode, power
        self.divides_by_norm, self.divides_by_sqrt_n_fft = (
            normalize_stft in (True, "window"),
            normalize_stft == "frame_length",
        )
        self.onesided, self.center, self.return_complex = onesided, center, return_complex
        self.n_freqs = n_fft // 2 + 1
        mel_filters = torchaudio.functional.melscale_fbanks(
            self.n_freqs, f_min_hz, f_max_hz, n_mels, samplerate, norm=norm_mel, mel_scale=mel_scale
        )
        self.register_buffer("hann_window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("mel_filters", mel_filters, persistent=False)

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of a waveform of `n_samples`."""
        return 1 + (n_samples if self.center else n_samples - self.n_fft) // self.hop_length

    def forward(self, waveform: Tensor) -> Tensor:
        """(..., time) in [-1, 1] to (..., n_mels, n_frames): a clip, a batch, or a batch with channels."""
        clips = waveform.reshape(-1, waveform.shape[-1])
        log_mel = self.log(self.mel_power(clips)).transpose(1, 2)
        return log_mel.reshape(waveform.shape[:-1] + log_mel.shape[-2:])

    def mel_power(self, waveform: Tensor, exact: bool = True) -> Tensor:
        """(batch, time) in [-1, 1] to the mel spectrum before the logarithm, (batch, n_frames, n_mels).

        If not `exact`, it is a quarter faster on a CPU, and its logarithm may differ from torchaudio's by 1e-6.
        """
        if torch.jit.is_scripting() or _is_traced(waveform):  # type: ignore[attr-defined]
            # One formula for all values, and any number of clips.
            return torch.matmul(self._spectrum(waveform).abs().pow(self.power), self.mel_filters)
        return self._mel_in_pieces(waveform, exact)

    @torch.jit.unused
    def _mel_in_pieces(self, waveform: Tensor, exact: bool) -> Tensor:
        # The spectra of a whole batch are so large that a CPU's allocator returns their memory to the system after each
        # batch, and the page faults cost more than the arithmetic. Pieces of 4 to 16 clips are equally fast.
        pieces = torch.split(waveform, 8) if waveform.device.type == "cpu" else (waveform,)
        return torch.cat([self._mel(self._spectrum(piece), exact) for piece in pieces])

    @staticmethod
    def log(mel_power: Tensor, offset: float = LOG_OFFSET) -> Tensor:
        return (mel_power + offset).log_()

    def _spectrum(self, waveform: Tensor) -> Tensor:
        """(clips, time) to complex (clips, n_frames, n_freqs)."""
        center, edge = self.center, self.n_fft // 2
        if center and self.pad_mode == "reflect" and waveform.shape[1] > edge:
            # As torch.stft pads, in a sixth of the time: its reflection indexes every sample of the clip.
            before, after = waveform[:, 1 : edge + 1].flip(1), waveform[:, -edge - 1 : -1].flip(1)
            waveform, center = torch.cat((before, waveform, after), dim=1), False
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop_length, window=self.hann_window, center=center, pad_mode=self.pad_mode,
            normalized=self.divides_by_sqrt_n_fft, onesided=self.onesided, return_complex=True,
        )  # fmt: skip
        # The second half of a two-sided spectrum of a real signal mirrors the first.
        spectrum = spectrum[:, : self.n_freqs].transpose(1, 2)
        if self.divides_by_norm:
            spectrum = spectrum / self.hann_window.square().sum().sqrt()
        return spectrum

    @torch.jit.unused
    def _mel(self, spectrum: Tensor, exact: bool) -> Tensor:
        """Complex (clips, n_frames, n_freqs) to mel bands (clips, n_frames, n_mels)."""
        if self.power != 2 or spectrum.device.type != "cpu":
            return torch.matmul(spectrum.abs().pow(self.power), self.mel_filters)
        # On a CPU real² + imag² takes a quarter of the time of abs(), but rounds differently from torchaudio's
        # abs().pow(2): bands differ by up to 4e-7 of their value. torch.allclose allows 1e-5 of the logarithm, which is
        # less than that only where it is near 0, in bands near 1. Frames with such a band (one in eight) use abs().
        real, imag = spectrum.real, spectrum.imag
        power = torch.addcmul(real.square(), imag, imag)
        if not exact:
            return torch.matmul(power, self.mel_filters)
        near_one = ((torch.matmul(power.detach(), self.mel_filters) - 1).abs() < 0.1).any(-1)
        power[near_one] = spectrum[near_one].abs().square()
        return torch.matmul(power, self.mel_filters)


@torch.jit.unused
def _is_traced(waveform: Tensor) -> bool:
    """Return whether torch.export, torch.jit.trace or a transform of torch.func is recording operations."""
    is_transformed: bool = torch._C._functorch.is_functorch_wrapped_tensor(waveform)
    return is_transformed or torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()
