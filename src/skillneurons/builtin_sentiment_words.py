"""The words of the built-in sentiment tasks: aspects of films and meals, and words that praise or blame.

Every quality word has a rare synonym beside it: a word of the same polarity that a small model has seen less.
"""

from skillneurons.builtin_sentiment import Notes
from skillneurons.grammar import glossary

FILMS = Notes(
    nouns={
        "story": ("plot", "ending", "opening", "dialogue", "script", "premise"),
        "people": ("cast", "lead actor", "villain", "narrator", "heroine", "ensemble"),
        "sound": ("music", "score", "title song", "sound design", "voice work", "choir"),
        "picture": ("camera work", "lighting", "editing", "scenery", "costume design", "animation"),
    },
    qualities={
        "positive": glossary(
            "superb resplendent, charming beguiling, delightful enchanting, brilliant scintillating, "
            "memorable indelible, wonderful wondrous, excellent exemplary, great prodigious, perfect impeccable, "
            "amazing astounding, fantastic stupendous, beautiful exquisite, terrific splendiferous, "
            "outstanding peerless, magnificent majestic, stunning dazzling"
        ),
        "negative": glossary(
            "dull soporific, tedious wearisome, bland insipid, dreadful abysmal, terrible execrable, "
            "awful atrocious, boring stultifying, bad lamentable, horrible ghastly, poor woeful, lame feeble, "
            "pathetic pitiable, stupid asinine, annoying irksome, ridiculous risible, pointless futile"
        ),
    },
    topical={},
    settings=(
        "we saw it on a tuesday and {note}",
        "after the long queue outside , {note}",
        "{note} , as i told my sister on the bus",
        "it runs for two hours and {note}",
        "{note} , and the credits list forty names",
        "my neighbour lent me the disc and {note}",
        "it was shown at the town hall and {note}",
        "{note} , and that was my sunday evening",
    ),
)
MEALS = Notes(
    nouns={
        "food": ("soup", "starter", "main course", "salad", "dessert", "fish"),
        "staff": ("waiter", "cook", "owner", "hostess", "barman", "manager"),
        "place": ("dining room", "terrace", "garden", "kitchen", "bar", "entrance"),
        "drink": ("coffee", "house wine", "lemonade", "beer", "tea", "orange juice"),
    },
    qualities={
        "positive": glossary(
            "superb resplendent, delightful enchanting, wonderful wondrous, excellent exemplary, great prodigious, "
            "impressive commanding, lovely exquisite, amazing astounding, fantastic stupendous, perfect impeccable, "
            "outstanding peerless, terrific splendiferous, brilliant scintillating, magnificent majestic"
        ),
        "negative": glossary(
            "dreadful abysmal, terrible execrable, awful atrocious, bad lamentable, horrible ghastly, poor woeful, "
            "disappointing dispiriting, annoying irksome, disgusting repugnant, mediocre humdrum, pathetic pitiable, "
            "lame feeble, boring stultifying, dull soporific"
        ),
    },
    topical={
        "food": {
            "positive": glossary("delicious delectable, tasty toothsome, fresh unspoiled"),
            "negative": glossary("bland insipid, tasteless savorless, stale fusty"),
        },
        "staff": {
            "positive": glossary("friendly affable, charming beguiling, kind benevolent"),
            "negative": glossary("rude churlish, lazy slothful, stupid asinine"),
        },
        "place": {
            "positive": glossary("beautiful picturesque, stunning dazzling, elegant soigne"),
            "negative": glossary("dirty squalid, ugly unsightly, cheap tawdry"),
        },
        "drink": {
            "positive": glossary("refreshing invigorating, delicious delectable, fine superlative"),
            "negative": glossary("bland insipid, sour vinegary, weak diluted"),
        },
    },
    settings=(
        "we went there on a tuesday and {note}",
        "after a long walk by the river , {note}",
        "{note} , as i told my sister on the phone",
        "we sat down at seven and {note}",
        "{note} , and the menu has two pages",
        "my neighbour paid the bill and {note}",
        "it is next to the station and {note}",
        "{note} , and that was my sunday evening",
    ),
)
