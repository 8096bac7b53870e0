"""Windows on their way between pinned memory of the host and a GPU, while the GPU works on others.

Copies go through a CUDA stream of their own, in the order in which they are asked for, so that a window is put back before a
later block fetches it. The stream of the work waits for the one copy that it needs, never for the host.
"""

import torch
from torch import Tensor


class Ferry:
    """Fetches windows of a tensor (windows, seqlen, hidden) one ahead, and puts them back. Args: states_WLD: pinned."""

    def __init__(self, states_WLD: Tensor, device: torch.device) -> None:
        self._states_WLD, self._device = states_WLD, device
        self._copies = torch.cuda.Stream(device)
        self._ahead: tuple[int, Tensor, torch.cuda.Event] | None = None

    def fetch(self, window: int) -> Tensor:
        """One window on the device, (1, seqlen, hidden); the next one sets out."""
        ahead, self._ahead = self._ahead, None
        _, hidden_1LD, arrived = ahead if ahead is not None and ahead[0] == window else self._set_out(window)
        work = torch.cuda.current_stream(self._device)
        work.wait_event(arrived)
        hidden_1LD.record_stream(work)  # its memory came from the other stream
        if window + 1 < len(self._states_WLD):
            self._ahead = self._set_out(window + 1)
        return hidden_1LD

    def put(self, window: int, hidden_1LD: Tensor) -> None:
        """Overwrite one window on the host, once what is being worked out for it is there."""
        if self._ahead is not None and self._ahead[0] == window:
            self._ahead = None
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            self._states_WLD[window : window + 1].copy_(hidden_1LD, non_blocking=True)
        if hidden_1LD.is_cuda:
            hidden_1LD.record_stream(self._copies)

    def _set_out(self, window: int) -> tuple[int, Tensor, torch.cuda.Event]:
        with torch.cuda.stream(self._copies):
            hidden_1LD = self._states_WLD[window : window + 1].to(self._device, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(self._copies)
        return window, hidden_1LD, arrived
