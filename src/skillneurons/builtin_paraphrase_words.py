"""The words of the built-in paraphrase tasks: travel questions and office requests."""

from skillneurons.builtin_paraphrase import Exchange
from skillneurons.grammar import glossary

TRAVEL = Exchange(
    names=(
        *("london", "paris", "berlin", "rome", "madrid", "vienna", "dublin", "lisbon", "athens", "prague"),
        *("warsaw", "moscow", "boston", "chicago", "dallas", "denver", "miami", "seattle", "houston", "detroit"),
        *("toronto", "sydney", "tokyo", "delhi", "mumbai", "cairo", "dubai", "bangkok", "havana", "lima"),
    ),
    things=("train", "bus", "plane", "ferry", "taxi"),
    wordings={
        "price": (
            "how much does the {m} from {x} to {y} cost ?",
            "what is the price of the {m} from {x} to {y} ?",
            "what do people pay for the {m} to {y} from {x} ?",
            "how expensive is the {m} that goes to {y} from {x} ?",
        ),
        "duration": (
            "how long does the {m} from {x} to {y} take ?",
            "how many hours is the trip from {x} to {y} by {m} ?",
            "how much time does the {m} need to {y} from {x} ?",
            "how long is the journey to {y} from {x} by {m} ?",
        ),
        "first": (
            "when does the first {m} from {x} to {y} leave ?",
            "what time is the earliest {m} from {x} to {y} ?",
            "how early can i take a {m} to {y} from {x} ?",
        ),
        "last": (
            "when does the last {m} from {x} to {y} leave ?",
            "what time is the latest {m} from {x} to {y} ?",
            "how late can i take a {m} to {y} from {x} ?",
        ),
        "booking": (
            "where can i book the {m} from {x} to {y} ?",
            "who sells seats for the {m} from {x} to {y} ?",
            "where do i buy a ticket for the {m} to {y} from {x} ?",
        ),
        "luggage": (
            "how many bags can i take on the {m} from {x} to {y} ?",
            "what is the luggage limit on the {m} from {x} to {y} ?",
            "how much luggage is allowed on the {m} to {y} from {x} ?",
        ),
        "animals": (
            "can my dog come on the {m} from {x} to {y} ?",
            "are pets allowed on the {m} from {x} to {y} ?",
            "may i take an animal on the {m} to {y} from {x} ?",
        ),
        "food": (
            "is there food on the {m} from {x} to {y} ?",
            "can i buy a meal on the {m} from {x} to {y} ?",
            "do they sell anything to eat on the {m} to {y} from {x} ?",
        ),
        "failure": (
            "what happens if the {m} from {x} to {y} is cancelled ?",
            "what can i do if the {m} from {x} to {y} does not run ?",
            "who helps me if there is no {m} to {y} from {x} that day ?",
        ),
    },
    openings=(
        "i have a question : ",
        "please tell me : ",
        "does anyone know this : ",
        "i am asking for a friend : ",
        "a short question : ",
    ),
    negated_openings=(
        "i never found this out : ",
        "nobody could tell me this : ",
        "i do not know this and want to : ",
        "it cannot hurt to ask : ",
        "there is no such thing as a silly question : ",
    ),
    distractions=(
        "my sister moved to {z} last year .",
        "i met a man from {z} on the street .",
        "my aunt sent me a card from {z} .",
        "it was raining when i left {z} in may .",
    ),
    synonyms=glossary(
        "cost retail for, price tariff, pay shell out, expensive pricey, trip voyage, journey trek, leave depart, "
        "earliest soonest, latest hindmost, book reserve, seats berths, sells vends, buy procure, "
        "ticket travel pass, bags valises, luggage baggage, allowed permitted, dog hound, animal beast, "
        "pets domestic animals, food victuals, meal repast, eat consume, cancelled scrapped, run operate, "
        "helps assists"
    ),
)
OFFICE = Exchange(
    names=(
        *("anna", "peter", "mary", "john", "susan", "david", "linda", "robert", "emma", "thomas"),
        *("laura", "kevin", "julia", "martin", "sarah", "daniel", "helen", "simon", "nancy", "george"),
        *("alice", "frank", "karen", "oliver", "diana", "henry", "rachel", "victor", "paula", "walter"),
    ),
    things=("report", "contract", "letter", "budget", "schedule", "invoice", "proposal", "brochure"),
    wordings={
        "send": (
            "{x} should send the {m} to {y} .",
            "please ask {x} to mail the {m} to {y} .",
            "{y} should get the {m} from {x} by mail .",
            "it is for {y} that {x} should put the {m} in the mail .",
        ),
        "explain": (
            "{x} should explain the {m} to {y} .",
            "please ask {x} to tell {y} what the {m} means .",
            "{y} should hear from {x} what the {m} means .",
        ),
        "return": (
            "{x} should give the {m} back to {y} .",
            "please ask {x} to return the {m} to {y} .",
            "{y} wants the {m} back from {x} .",
        ),
        "check": (
            "{x} should check the {m} for {y} .",
            "please ask {x} to look for mistakes in the {m} for {y} .",
            "{y} wants {x} to search the {m} for mistakes .",
        ),
        "translate": (
            "{x} should translate the {m} for {y} .",
            "please ask {x} to put the {m} into english for {y} .",
            "{y} needs an english version of the {m} from {x} .",
        ),
        "print": (
            "{x} should print the {m} for {y} .",
            "please ask {x} to make a paper copy of the {m} for {y} .",
            "{y} needs the {m} on paper from {x} .",
        ),
        "sign": (
            "{x} and not {y} should sign the {m} .",
            "please ask {x} to sign the {m} instead of {y} .",
            "it is not {y} but {x} whose name belongs under the {m} .",
        ),
        "remind": (
            "{x} should remind {y} of the {m} .",
            "please ask {x} to tell {y} not to forget the {m} .",
            "{y} must not forget the {m} , and {x} should say so .",
        ),
        "write": (
            "{x} should write the {m} for {y} .",
            "please ask {x} to draft the {m} for {y} .",
            "{y} needs {x} to put the {m} into words .",
        ),
    },
    openings=(
        "one more thing : ",
        "this is for the team : ",
        "as we said on monday : ",
        "a short note : ",
        "before the weekend : ",
    ),
    negated_openings=(
        "please do not forget this : ",
        "nobody has done this yet : ",
        "there is no hurry , but : ",
        "i never wrote this down : ",
        "this is not a joke : ",
    ),
    distractions=(
        "{z} is on holiday this week .",
        "{z} brought a cake for the whole floor .",
        "the coffee machine is next to {z} now .",
        "{z} has a birthday in june .",
    ),
    synonyms=glossary(
        "send dispatch, mail post, get obtain, explain elucidate, means signifies, give hand, return restore, "
        "wants desires, check vet, mistakes blunders, search scour, translate render in english, version rendition, "
        "needs requires, print run off, copy duplicate, paper hardcopy, sign autograph, name signature, "
        "remind apprise, forget overlook, write pen, draft compose, words prose"
    ),
)
