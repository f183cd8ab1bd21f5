"""The first layer of the model: waveforms in, log-mel filter banks out."""

import torch
from torch import nn

from kws.data.torchaudio_import import torchaudio

LOG_OFFSET = 1e-6  # keeps silence finite: log(0 + 1e-6) = -13.8
WHOLE_BATCH = 2**31


def piece_size(device):
    """Return how many clips to work on at once: eight on a CPU (4 to 16 are equally fast), any number elsewhere."""
    return 8 if device.type == "cpu" else WHOLE_BATCH


class LogMelFilterBanks(nn.Module):
    """log(mel spectrogram + 1e-6) of waveforms, as a layer.

    Equals `torch.log(torchaudio.transforms.MelSpectrogram(...)(x) + 1e-6)` within `torch.allclose`'s defaults.
    `hann_window` and `mel_filters` (n_fft // 2 + 1, n_mels) are buffers: they move with `.to()`, and stay out of the
    state dict because the arguments determine them.

    Args: as torch.stft and torchaudio.functional.melscale_fbanks name them; `f_max_hz` None means samplerate / 2,
    `norm_mel` is None or "slaney", `power` an exponent of the magnitude (1.0 amplitude, 2.0 power).
    `normalize_stft` is torchaudio's `normalized`: True divides by the window's norm, "frame_length" by sqrt(n_fft).
    `onesided` and `return_complex` are torch.stft's: whichever form the spectrum has inside, the result is the same.

    Raises ValueError where an argument makes no filter bank.
    """

    def __init__(
        self,
        n_fft=400,
        samplerate=16000,
        hop_length=160,
        n_mels=80,
        pad_mode="reflect",
        power=2.0,
        normalize_stft=False,
        onesided=True,
        center=True,
        return_complex=True,
        f_min_hz=0.0,
        f_max_hz=None,
        norm_mel=None,
        mel_scale="htk",
    ):
        super().__init__()
        if n_fft < 1 or hop_length < 1 or n_mels < 1 or samplerate <= 0:
            raise ValueError("n_fft, hop_length, n_mels and samplerate must be positive")
        if not power or power <= 0:
            raise ValueError("power must be a positive number: a complex spectrum has no mel filter banks")
        f_max_hz = samplerate / 2 if f_max_hz is None else f_max_hz
        if not 0 <= f_min_hz < f_max_hz:
            raise ValueError(f"f_min_hz {f_min_hz} must lie below f_max_hz {f_max_hz}")
        self.n_fft = n_fft
        self.samplerate = samplerate
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.pad_mode = pad_mode
        self.power = power
        self.normalize_stft = normalize_stft
        self.onesided = onesided
        self.center = center
        self.return_complex = return_complex
        self.n_freqs = n_fft // 2 + 1
        mel_filters = torchaudio.functional.melscale_fbanks(
            self.n_freqs, f_min_hz, f_max_hz, n_mels, samplerate, norm=norm_mel, mel_scale=mel_scale
        )
        self.register_buffer("hann_window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("mel_filters", mel_filters, persistent=False)

    def n_frames(self, n_samples):
        """Return how many frames a waveform of `n_samples` gives."""
        return 1 + (n_samples if self.center else n_samples - self.n_fft) // self.hop_length

    def forward(self, waveform):
        """(batch, time) or (time,) in [-1, 1] to (batch, n_mels, n_frames) or (n_mels, n_frames)."""
        clips = waveform if waveform.dim() > 1 else waveform[None]
        # On a CPU a whole batch's spectra are so large that their memory goes back to the system after each batch, and
        # its page faults cost more than the arithmetic. Few clips at a time stay in the allocator's hands and in cache.
        pieces = clips.split(piece_size(clips.device))
        log_mel = torch.cat([torch.log(self._mel(self._spectrum(piece)) + LOG_OFFSET) for piece in pieces])
        log_mel = log_mel.transpose(1, 2)
        return log_mel if waveform.dim() > 1 else log_mel[0]

    def _spectrum(self, waveform):
        """(clips, time) to complex (clips, n_frames, n_freqs)."""
        center, edge = self.center, self.n_fft // 2
        if center and self.pad_mode == "reflect" and waveform.shape[1] > edge:
            # What torch.stft would do, in a sixth of the time: its reflection looks up each sample of the clip.
            before, after = waveform[:, 1 : edge + 1].flip(1), waveform[:, -edge - 1 : -1].flip(1)
            waveform, center = torch.cat((before, waveform, after), dim=1), False
        spectrum = torch.stft(
            waveform,
            self.n_fft,
            self.hop_length,
            window=self.hann_window,
            center=center,
            pad_mode=self.pad_mode,
            normalized=self.normalize_stft == "frame_length",
            onesided=self.onesided,
            return_complex=True,
        )
        # A two-sided spectrum of a real signal mirrors itself: the filters belong to its first half.
        spectrum = spectrum[:, : self.n_freqs].transpose(1, 2)
        if self.normalize_stft in (True, "window"):
            spectrum = spectrum / self.hann_window.square().sum().sqrt()
        return spectrum

    def _mel(self, spectrum):
        """Complex (clips, n_frames, n_freqs) to mel bands (clips, n_frames, n_mels)."""
        if self.power != 2 or spectrum.device.type != "cpu":
            return torch.matmul(spectrum.abs().pow(self.power), self.mel_filters)
        # On a CPU real² + imag² takes a quarter of the time of abs(), but it rounds otherwise than torchaudio's
        # abs().pow(2): bands differ by up to 4e-7 of their value. torch.allclose grants 1e-5 of the logarithm, which is
        # less than that only where it is near 0, in bands near 1: frames that have one (one in eight) go the slow way.
        real, imag = spectrum.real, spectrum.imag
        power = torch.addcmul(real.square(), imag, imag)
        near_one = ((torch.matmul(power.detach(), self.mel_filters) - 1).abs() < 0.1).any(-1)
        power[near_one] = spectrum[near_one].abs().square()
        return torch.matmul(power, self.mel_filters)
