"""The words of the built-in ethics tasks: household duties, everyday favors and claims."""

from skillneurons.builtin_ethics import Duties, Duty, Fairness, Treatment

DUTIES = Duties(
    duties=(
        Duty("dog", "walk the dog", "walked the dog", ("the dog is at the vet", "the dog hurt its paw")),
        Duty("dog", "brush the dog", "brushed the dog", ("the dog has lost its fur", "the dog bites when touched")),
        Duty("cat", "feed the cat", "fed the cat", ("the cat ran away", "the cat must not eat before surgery")),
        Duty("cat", "clean the cat box", "cleaned the cat box", ("the cat moved out", "the cat box is brand new")),
        Duty("plants", "water the plants", "watered the plants", ("the plants died", "the plants are still wet")),
        Duty("plants", "mow the lawn", "mowed the lawn", ("the mower broke down", "the grass has stopped growing")),
        Duty("car", "wash the car", "washed the car", ("the car was stolen", "the car is at the garage")),
        Duty("car", "fill up the car", "filled up the car", ("the gas station closed", "the tank is not empty")),
        Duty("food", "cook dinner", "cooked dinner", ("the stove does not work", "we are all eating out")),
        Duty("food", "wash the dishes", "washed the dishes", ("no dishes are dirty", "the dish soap ran out")),
        Duty("food", "set the table", "set the table", ("the table is being repaired", "nobody is eating at home")),
        Duty(
            "clothes",
            "do the laundry",
            "did the laundry",
            ("the washing powder ran out", "all the clothes are clean"),
        ),
        Duty("clothes", "iron the shirts", "ironed the shirts", ("the iron broke", "the shirts are not dry yet")),
        Duty("school", "pick up the kids", "picked up the kids", ("the kids had no school", "the kids took the bus")),
        Duty("school", "check the homework", "checked the homework", ("the teacher gave no homework",)),
        Duty(
            "money", "pay the rent", "paid the rent", ("the landlord wants the rent next week", "the bank was shut")
        ),
        Duty("money", "pay the phone bill", "paid the phone bill", ("the phone bill was wrong",)),
        Duty("trash", "take out the trash", "took out the trash", ("the trash can is empty", "the trash is gone")),
        Duty("trash", "sort the bottles", "sorted the bottles", ("the bottles were thrown out",)),
        Duty("piano", "teach the piano lesson", "taught the piano lesson", ("the pupil is sick",)),
        Duty("piano", "tune the piano", "tuned the piano", ("the piano was sold", "someone is playing the piano")),
        Duty("snow", "shovel the snow", "shoveled the snow", ("the snow has melted", "no snow has fallen")),
        Duty("mail", "bring in the mail", "brought in the mail", ("the mailbox is empty", "no mail comes today")),
        Duty("fish", "feed the fish", "fed the fish", ("the fish were given away", "the fish must not eat today")),
    ),
    persons=(
        *("brother", "sister", "mother", "father", "aunt", "uncle", "cousin", "neighbor", "roommate", "wife"),
        *("husband", "grandmother", "grandfather", "friend", "boss", "niece", "nephew", "coach", "son", "daughter"),
    ),
    helpers=("brother", "sister", "mother", "father", "friend", "cousin", "roommate", "son", "daughter"),
    recent=("an hour ago", "ten minutes ago", "just now", "this morning", "before you called"),
    stale=("last year", "two years ago", "half a year ago", "last spring", "some months ago"),
    unable=(
        "i broke my arm and must not lift a thing",
        "i am in the hospital",
        "the doctor told me to stay in bed",
        "i cannot get up with this fever",
        "i was called to an emergency",
        "my train is stuck and will not arrive tonight",
    ),
    whims=(
        "i do not feel like it",
        "nobody will notice",
        "i would rather watch television",
        "it is not much fun",
        "i bought new shoes",
        "my favorite color is blue",
        "a good song is on the radio",
        "i have never liked doing it",
    ),
    scenarios=(
        "you promised your {person} to {do} .",
        "it is your turn to {do} for your {person} .",
        "your {person} is counting on you to {do} .",
        "are you going to {do} , as your {person} asked ?",
        "should you {do} today for your {person} ?",
    ),
    excuses=(
        "i will leave it , because {reason} .",
        "i do not have to , since {reason} .",
        "no , because {reason} .",
        "but {reason} .",
    ),
    openings=("we spoke about it at lunch . ", "it is written on the list . ", "it is friday . ", "listen . "),
)
FAIRNESS = Fairness(
    treatments=(
        Treatment(
            "favor", "ride", "drive my {person} to work", ("{he} bought a car", "{he} takes the bus to work now")
        ),
        Treatment("favor", "ride", "lend my {person} my bike", ("{he} got a bike", "{he} never locks my bike")),
        Treatment("favor", "food", "cook for my {person}", ("{he} has a cook now", "{he} does not eat before noon")),
        Treatment("favor", "food", "share my lunch with my {person}", ("{he} brought {his} own lunch",)),
        Treatment(
            "favor", "sport", "play tennis with my {person}", ("{he} broke {his} leg", "the tennis court was closed")
        ),
        Treatment("favor", "sport", "go running with my {person}", ("{he} hurt {his} knee",)),
        Treatment("favor", "study", "help my {person} with math", ("{he} passed the exam", "{he} found a tutor")),
        Treatment("favor", "study", "read my {person} the news", ("{he} got new glasses", "no paper was printed")),
        Treatment("favor", "pet", "walk the dog of my {person}", ("the dog is ill", "{he} no longer has a dog")),
        Treatment("favor", "phone", "call my {person} at night", ("my phone was broken", "{he} got a new number")),
        Treatment(
            "favor", "phone", "write to my {person}", ("the post office was closed", "{he} gave no new address")
        ),
        Treatment("favor", "gift", "buy my {person} flowers", ("{he} is allergic to flowers", "the florist closed")),
        Treatment("claim", "money", "pay me back", ("i lent {him} forty dollars", "i paid for {his} dinner")),
        Treatment("claim", "money", "give me a refund", ("the lamp {he} sold me is broken", "{he} charged me twice")),
        Treatment("claim", "money", "pay me for the week", ("i painted {his} house", "i worked in {his} shop")),
        Treatment("claim", "money", "give me a raise", ("i doubled {his} sales", "i got no raise in ten years")),
        Treatment("claim", "harm", "apologize to me", ("{he} called me a liar", "{he} read my diary")),
        Treatment("claim", "harm", "take back {his} words", ("{he} told lies about me", "{he} called me a thief")),
        Treatment("claim", "grade", "give me a good grade", ("i solved every problem in {his} test",)),
        Treatment("claim", "grade", "praise my essay", ("my essay had no mistakes", "{he} ranked my essay first")),
        Treatment("claim", "noise", "turn the music down", ("the baby is asleep", "it is three in the morning")),
        Treatment("claim", "noise", "stop drumming", ("the walls are thin and i need sleep",)),
        Treatment("claim", "space", "give me the seat", ("my ticket has that seat number", "i am on crutches")),
        Treatment("claim", "space", "move {his} car", ("{his} car is blocking my door", "i cannot get out")),
    ),
    persons={
        **dict.fromkeys(("brother", "father", "uncle", "nephew", "landlord", "coach", "boss"), "he"),
        **dict.fromkeys(("son", "grandfather", "neighbor", "husband"), "he"),
        **dict.fromkeys(("sister", "mother", "aunt", "niece", "teacher", "roommate", "wife"), "she"),
        **dict.fromkeys(("daughter", "grandmother", "friend", "cousin"), "she"),
    },
    always={
        "favor": (
            "{he} asked me not to",
            "{he} is away on a trip",
            "{he} moved to another town",
            "{he} told me that {he} wants to be alone",
            "{he} no longer wants me to",
            "i was in the hospital",
        ),
        "claim": (
            "{he} promised it to me",
            "{he} gave me {his} word",
            "we agreed on it in writing",
            "{he} lost the bet about it",
            "the judge said so",
            "{he} would never refuse it to others",
        ),
    },
    never={
        "favor": (
            "{he} has a green coat",
            "{he} likes old films",
            "{he} was born in may",
            "{he} does not like my hat",
            "{his} name is hard to spell",
            "{he} never drinks tea",
        ),
        "claim": (
            "i am taller than {him}",
            "my favorite color is blue",
            "i was born in may",
            "i do not like mondays",
            "i have never been to paris",
            "{his} hair is red",
        ),
    },
    scenarios={
        "favor": (
            "i usually {phrase} , but i stopped because {reason} .",
            "i used to {phrase} but i do not any more because {reason} .",
            "i often {phrase} , but not this week , as {reason} .",
            "i said i would {phrase} , and then i did not because {reason} .",
        ),
        "claim": (
            "my {person} should {phrase} because {reason} .",
            "i expect my {person} to {phrase} , since {reason} .",
            "it is only fair that my {person} should {phrase} , as {reason} .",
            "i deserve that my {person} should {phrase} because {reason} .",
        ),
    },
    openings=("here is my view : ", "i told a friend : ", "as i see it , ", "i wrote in my diary : "),
)
