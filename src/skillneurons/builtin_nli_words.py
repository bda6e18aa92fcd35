"""The words of the built-in entailment tasks: things in a house, sights on a street."""

from skillneurons.builtin_nli import World
from skillneurons.grammar import glossary

HOUSEHOLD = World(
    kinds={
        "fruit": ("apple", "pear", "orange", "lemon", "banana", "melon"),
        "vegetable": ("carrot", "onion", "potato", "turnip", "cabbage", "radish"),
        "tool": ("hammer", "saw", "drill", "wrench", "shovel", "rake"),
        "flower": ("rose", "tulip", "daisy", "lily", "orchid", "sunflower"),
        "pet": ("cat", "dog", "rabbit", "hamster", "parrot", "turtle"),
        "musical instrument": ("guitar", "violin", "trumpet", "flute", "piano", "harp"),
        "garment": ("shirt", "coat", "skirt", "sweater", "jacket", "dress"),
        "container": ("bottle", "jar", "basket", "box", "crate", "barrel"),
    },
    places=(
        *("kitchen", "cellar", "attic", "garage", "dining room", "bedroom"),
        *("garden", "bathroom", "laundry", "office", "corridor", "barn"),
    ),
    at="in",
    opposites=(("clean", "dirty"), ("wet", "dry"), ("old", "new"), ("big", "small"), ("heavy", "light")),
    settings=("it is sunday and ", "the radio is on and ", "it is late , and ", "the door is open and "),
    distractions=(
        "the clock on the wall has stopped and nobody has looked at it .",
        "the neighbors are not at home this week .",
        "someone is singing an old song that has no end .",
        "the phone rang twice and never again .",
        "the mail has not come yet .",
    ),
    synonyms=glossary(
        "somewhere someplace, altogether all told, single solitary, every each, some sundry, few handful of, "
        "clean unsoiled, dirty soiled, dry moistureless, old aged, big sizable, small diminutive, heavy weighty, "
        "garment article of clothing, container receptacle, flower blossom, tool implement, cellar vault, "
        "corridor passageway, attic garret, barn granary"
    ),
)
STREET = World(
    kinds={
        "vehicle": ("car", "van", "truck", "bus", "tractor", "motorcycle", "taxi"),
        "animal": ("dog", "cat", "horse", "goat", "donkey", "cow", "monkey"),
        "tree": ("oak", "maple", "willow", "birch", "pine", "palm", "chestnut"),
        "building": ("church", "hotel", "school", "hospital", "theater", "factory", "castle"),
        "athlete": ("runner", "swimmer", "rower", "skater", "wrestler", "gymnast", "cyclist"),
        "musician": ("drummer", "singer", "guitarist", "violinist", "pianist", "trumpeter", "flutist"),
    },
    places=(
        *("park", "market", "square", "station", "harbor", "bridge"),
        *("beach", "museum", "fountain", "river", "gate", "airport"),
    ),
    at="near",
    opposites=(("clean", "dirty"), ("wet", "dry"), ("tall", "short"), ("big", "small"), ("young", "old")),
    settings=("it is noon and ", "the sun is out and ", "it is a holiday , and ", "the shops are open and "),
    distractions=(
        "two clouds are in the sky and it has not rained .",
        "the newspaper has no pictures today .",
        "someone is telling a joke that nobody has heard .",
        "the ice cream costs two dollars and never melts .",
        "the lights have not come on yet .",
    ),
    synonyms=glossary(
        "somewhere someplace, altogether all told, single solitary, every each, some sundry, few handful of, "
        "clean unsoiled, dirty soiled, dry moistureless, tall lofty, big sizable, small diminutive, young youthful, "
        "old aged, vehicle conveyance, animal beast, building edifice, musician instrumentalist, harbor haven, "
        "park parkland, market bazaar, square plaza"
    ),
)
