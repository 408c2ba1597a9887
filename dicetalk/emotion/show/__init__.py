"""Pictures of emotions as arrays, uint8 RGB ``(H, W, 3)``; needs matplotlib, and maps scikit-learn as well."""

from dicetalk.emotion.show.bank import plot_bank_attention
from dicetalk.emotion.show.figure import check_plots
from dicetalk.emotion.show.map import plot_priors
from dicetalk.emotion.show.track import plot_track

__all__ = ["check_plots", "plot_bank_attention", "plot_priors", "plot_track"]
