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
            "superb resplendent, charming beguiling, gripping enthralling, clever ingenious, delightful enchanting, "
            "brilliant scintillating, graceful lissome, lively ebullient, memorable indelible, polished burnished, "
            "inspired visionary, wonderful wondrous, excellent exemplary, great prodigious, fascinating bewitching, "
            "impressive commanding"
        ),
        "negative": glossary(
            "dull soporific, clumsy maladroit, tedious wearisome, stale hackneyed, dreary lugubrious, "
            "awkward ungainly, bland insipid, shallow vapid, hollow vacuous, lifeless moribund, sloppy slipshod, "
            "dreadful abysmal, terrible execrable, awful atrocious, boring stultifying, bad lamentable"
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
            "impressive commanding, lovely exquisite, pleasant congenial, amazing astounding, fantastic stupendous"
        ),
        "negative": glossary(
            "dreadful abysmal, terrible execrable, awful atrocious, bad lamentable, horrible ghastly, poor woeful, "
            "disappointing dispiriting, unpleasant odious, disgusting repugnant, mediocre humdrum"
        ),
    },
    topical={
        "food": {
            "positive": glossary(
                "delicious delectable, tasty toothsome, fresh unspoiled, tender succulent, juicy luscious, "
                "healthy salubrious"
            ),
            "negative": glossary(
                "bland insipid, greasy oleaginous, burnt charred, soggy sodden, stale fusty, tasteless savorless"
            ),
        },
        "staff": {
            "positive": glossary(
                "friendly affable, polite courteous, helpful obliging, kind benevolent, cheerful convivial, "
                "patient forbearing"
            ),
            "negative": glossary(
                "rude churlish, careless negligent, lazy slothful, arrogant haughty, angry irascible, "
                "clumsy maladroit"
            ),
        },
        "place": {
            "positive": glossary(
                "beautiful picturesque, clean immaculate, comfortable commodious, elegant soigne, "
                "charming beguiling, cozy homey"
            ),
            "negative": glossary(
                "dirty squalid, ugly unsightly, noisy clamorous, cramped poky, gloomy tenebrous, shabby dilapidated"
            ),
        },
        "drink": {
            "positive": glossary(
                "refreshing invigorating, smooth velvety, delicious delectable, fresh unspoiled, tasty toothsome, "
                "fine superlative"
            ),
            "negative": glossary(
                "watery diluted, stale fusty, bitter acrid, sour vinegary, tasteless savorless, undrinkable unpotable"
            ),
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
