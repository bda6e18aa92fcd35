"""Seeds of generators."""


def mix(*numbers: int) -> int:
    """One generator seed from several numbers; neighbours share no stream, as with their sum they would."""
    state = 17
    for number in numbers:
        state = (state * 6_364_136_223_846_793_005 + number + 1_442_695_040_888_963_407) % 2**64
        state ^= state >> 29
    return state % 2**63
