"""Words that several parts of the package choose from; nothing is imported to know them."""

#: Head axes: gone from all slots of the model, or from all heads of a layer.
AXES = ("model", "layer")
#: Which edges a dead slot cuts: those of every query, or only those of queries after the context.
PRUNING = ("columns", "decode")
#: Where routes start: at the query, or at every position of the top layer.
SOURCES = ("query", "row")
#: Which prompts of a comparison are fitted to: every other one as they come, or after they were shuffled.
SPLITS = ("alternate", "random")
