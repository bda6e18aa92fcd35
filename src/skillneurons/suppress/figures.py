"""The figure of faithfulness over size."""

from matplotlib.figure import Figure

from skillneurons.plots.style import COLOURS, GREY, band, canvas, dress, legend_below, percent
from skillneurons.stats.intervals import exact
from skillneurons.suppress.faithfulness import WHOLE, Faithfulness


def faithfulness_curves(found: Faithfulness, title: str) -> Figure:
    """Shares of the right label's margin against size: what the top keeps alone, and what is lost without it."""
    figure, axes = canvas(8.4, 4.2, panels=2)
    places = range(len(found.sizes))
    for one, name, head in zip(
        axes, ("kept", "lost"), ("all but these neurons suppressed", "these neurons suppressed"), strict=True
    ):
        shares = [getattr(size, name) for size in found.sizes]
        own = [
            (at, share if share.low == share.low else exact(share.value))
            for at, share in zip(places, shares, strict=True)
        ]
        band(one, own, COLOURS[1], "s", "top neurons, 95% interval")
        random = [getattr(size, name).chance for size in found.sizes]
        one.plot(places, random, color=COLOURS[0], marker="o", markersize=5, label="random orders, mean")
        one.axhline(WHOLE if name == "kept" else 0, color=GREY, linestyle=":", label=f"{WHOLE:.0%} kept, 0% lost")
        dress(one, f"{title}, n={found.n}\n{head}", f"share of the margin {name}", "% of the neurons")
        one.set_xticks(places, [f"{size.percent:g}" for size in found.sizes])
        percent(one)
        one.set_ylim(auto=True)
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure
