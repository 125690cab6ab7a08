"""Whether patches like the MEI occur in natural images."""

from __future__ import annotations

import numpy as np
import torch

from .base import Analysis, AnalysisContext, analyses


@analyses.register("natural_patches")
def natural_patches(
    context: AnalysisContext, *, n_images: int = 200, similar: float = 0.5, top: int = 4
) -> Analysis:
    """Correlate every MEI, inside its mask, with natural images at every place (Fig. 2).

    The correlation is weighted by the mask; mean and contrast of a patch make no difference.

    Parameters
    ----------
    context : AnalysisContext
    n_images : int
        Natural images to search.
    similar : float
        Correlation from which a patch counts as like the MEI.
    top : int
        Patches to keep, of different images.

    Returns
    -------
    Analysis
        `best_r`: highest correlation; `share_similar`: share of images with a patch like the MEI.
        Arrays `patches` (units, top, h, w): best patches moved to the MEI's place, gray levels;
        `r` (units, top); `meis` (units, h, w).
    """
    stimuli = context.stimuli
    pool = np.asarray(context.natural(n_images), np.float32)
    h, w = stimuli.shape
    z = (torch.as_tensor(pool, device=stimuli.device) - stimuli.image_mean) / stimuli.image_sd
    frame = (2 * h, 2 * w)
    spectra = [torch.fft.rfft2(part, s=frame) for part in (z, z**2)]
    n, top = len(stimuli.units), min(top, len(pool))
    best, share = np.full((2, n), np.nan)
    found = np.full((n, top), np.nan, np.float32)
    patches = np.full((n, top, h, w), stimuli.image_mean, np.float32)
    for row in range(n):
        mask = context.masks[row, 0]
        if mask.sum() <= 0:
            continue
        template = context.mei[row, 0]
        ys, xs = np.nonzero(mask.cpu().numpy() > 0.01)
        box = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
        r = _masked_correlation(spectra, template[box], mask[box], (h, w), frame)
        peak = r.flatten(1).amax(1).cpu().numpy()
        order = np.argsort(-peak, kind="stable")[:top]
        best[row], share[row] = peak[order[0]], (peak >= similar).mean()
        found[row] = peak[order]
        for place, image in enumerate(order):
            y, x = divmod(int(r[image].argmax()), r.shape[2])
            size = box[0].stop - box[0].start, box[1].stop - box[1].start
            patches[(row, place, *box)] = pool[image, y : y + size[0], x : x + size[1]]
    meis = np.asarray(stimuli.mei_images, np.float32)
    columns = {"best_r": best, "share_similar": share}
    return Analysis(columns, {"patches": patches, "r": found, "meis": meis})


def _masked_correlation(spectra, template, weights, shape, frame) -> torch.Tensor:
    """Return the weighted correlation (n, places down, places right) of a small template."""
    total = weights.sum()
    centred = template - (template * weights).sum() / total
    energy = (centred.square() * weights).sum()
    valid = shape[0] - template.shape[0] + 1, shape[1] - template.shape[1] + 1

    def slide(spectrum, kernel):
        turned = torch.fft.rfft2(kernel, s=frame).conj()
        return torch.fft.irfft2(spectrum * turned, s=frame)[:, : valid[0], : valid[1]]

    product = slide(spectra[0], centred * weights)
    mean = slide(spectra[0], weights) / total
    variance = (slide(spectra[1], weights) - total * mean.square()).clamp_min(1e-6 * total)
    return product / (variance * energy.clamp_min(1e-12)).sqrt()
