"""Where neurons are read, the stream of their activations, their scores, sets of them, and changing them."""
