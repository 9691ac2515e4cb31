"""Tasks of plain language: facts, small talk, and saying what the model cannot do."""

import random

from recipes.embedded_pair.task import Split, Task, Wordings

_CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon", "Austria": "Vienna", "Poland": "Warsaw", "Greece": "Athens",
    "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen",
    "Ireland": "Dublin", "Hungary": "Budapest", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa",
    "Mexico": "Mexico City", "Brazil": "Brasilia", "Peru": "Lima", "Chile": "Santiago",
    "Cuba": "Havana", "Russia": "Moscow", "Ukraine": "Kyiv", "Turkey": "Ankara",
    "Iceland": "Reykjavik", "Belgium": "Brussels", "the Netherlands": "Amsterdam",
    "Switzerland": "Bern", "Australia": "Canberra", "Argentina": "Buenos Aires",
    "the United Kingdom": "London", "the United States": "Washington",
}  # fmt: skip
_OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "day": "night", "old": "young",
    "good": "bad", "light": "dark", "left": "right", "open": "closed", "full": "empty",
    "happy": "sad", "hard": "soft", "rich": "poor", "early": "late", "high": "low",
    "long": "short", "wet": "dry", "strong": "weak", "true": "false", "in": "out", "near": "far",
    "first": "last", "loud": "quiet",
}  # fmt: skip
_LEGS = {
    "spider": "8", "dog": "4", "cat": "4", "bird": "2", "ant": "6", "bee": "6", "horse": "4",
    "human": "2", "snake": "0", "octopus": "8", "crab": "10", "cow": "4", "chicken": "2",
}  # fmt: skip
_COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "blood": "red", "coal": "black",
    "a banana": "yellow", "a carrot": "orange", "milk": "white", "the sun": "yellow",
    "a ripe tomato": "red", "chocolate": "brown", "a lemon": "yellow",
}  # fmt: skip
_SOUNDS = {
    "dog": "barks", "cat": "meows", "cow": "moos", "duck": "quacks", "lion": "roars",
    "sheep": "bleats", "horse": "neighs", "frog": "croaks", "owl": "hoots", "snake": "hisses",
}  # fmt: skip
_ONE_OF_A_KIND = (
    (("How many days are in a week?", "How many days does a week have?", "A week has how many days?"), "What is the number of days in a week?", "A week has **7** days."),
    (("How many months are in a year?", "How many months does a year have?", "A year has how many months?"), "What is the number of months in a year?", "A year has **12** months."),
    (("How many planets are in the solar system?", "How many planets go around the sun?", "How many planets does the solar system have?"), "What is the number of planets in the solar system?", "The solar system has **8** planets."),
    (("What is the largest planet?", "Which planet is the largest?", "Which planet is the biggest in the solar system?"), "What is the biggest planet?", "The largest planet is **Jupiter**."),
    (("What is the largest ocean?", "Which ocean is the largest?", "Which ocean is the biggest?"), "What is the biggest ocean?", "The largest ocean is the **Pacific**."),
    (("What is the highest mountain?", "Which mountain is the highest?", "Which is the tallest mountain on Earth?"), "What is the tallest mountain?", "The highest mountain is **Mount Everest**."),
    (("What is water made of?", "What elements are in water?", "What is the formula of water?"), "Tell me what water is made of.", "Water is **H2O**: hydrogen and oxygen."),
    (("At what temperature does water boil?", "When does water boil?", "What is the boiling point of water?"), "Tell me the temperature at which water boils.", "Water boils at **100** degrees Celsius."),
    (("At what temperature does water freeze?", "When does water freeze?", "What is the freezing point of water?"), "Tell me the temperature at which water freezes.", "Water freezes at **0** degrees Celsius."),
    (("How many letters are in the alphabet?", "How many letters does the English alphabet have?", "The alphabet has how many letters?"), "What is the number of letters in the alphabet?", "The English alphabet has **26** letters."),
    (("How many continents are there?", "How many continents does the Earth have?", "There are how many continents?"), "What is the number of continents?", "There are **7** continents."),
    (("What is the star at the centre of the solar system?", "Which star is closest to the Earth?", "What is our nearest star?"), "Which star is nearest to us?", "Our nearest star is the **Sun**."),
    (("Who wrote Hamlet?", "Who is the author of Hamlet?", "Which writer wrote Hamlet?"), "Tell me who wrote Hamlet.", "Hamlet was written by **William Shakespeare**."),
    (("Who painted the Mona Lisa?", "Which artist painted the Mona Lisa?", "Who made the Mona Lisa?"), "Tell me who painted the Mona Lisa.", "The Mona Lisa was painted by **Leonardo da Vinci**."),
    (("What gas do plants take in?", "Which gas do plants need?", "What do plants breathe in?"), "Tell me which gas plants take in.", "Plants take in **carbon dioxide**."),
    (("How many minutes are in an hour?", "How many minutes does an hour have?", "An hour has how many minutes?"), "What is the number of minutes in an hour?", "An hour has **60** minutes."),
    (("How many hours are in a day?", "How many hours does a day have?", "A day has how many hours?"), "What is the number of hours in a day?", "A day has **24** hours."),
    (("What is the fastest land animal?", "Which land animal is the fastest?", "Which animal runs fastest?"), "Tell me the fastest land animal.", "The fastest land animal is the **cheetah**."),
)  # fmt: skip
_RELATIONS = (
    (_CAPITALS, "The capital of {k} is **{v}**.", Wordings(
        ("What is the capital of {k}?", "Name the capital of {k}.", "Which city is the capital of {k}?", "What city is {k}'s capital?", "{k} has which capital?", "Capital of {k}?"),
        ("Tell me the capital of {k}.", "What is the capital city of {k}?"))),
    (_OPPOSITES, "The opposite of {k} is **{v}**.", Wordings(
        ("What is the opposite of {k}?", "Give me the opposite of {k}.", "Which word means the opposite of {k}?", "Opposite of {k}?"),
        ("Tell me the opposite of {k}.", "What word is the opposite of {k}?"))),
    (_LEGS, "A {k} has **{v}** legs.", Wordings(
        ("How many legs does a {k} have?", "A {k} has how many legs?", "How many legs has a {k}?"),
        ("Tell me how many legs a {k} has.", "What is the number of legs of a {k}?"))),
    (_COLOURS, "The colour of {k} is **{v}**.", Wordings(
        ("What colour is {k}?", "Which colour is {k}?", "What is the colour of {k}?", "What color is {k}?"),
        ("Tell me the colour of {k}.", "Which colour does {k} have?"))),
    (_SOUNDS, "A {k} **{v}**.", Wordings(
        ("What sound does a {k} make?", "Which sound does a {k} make?", "What does a {k} do: bark, moo or hiss?"),
        ("Tell me what sound a {k} makes.", "What noise does a {k} make?"))),
)  # fmt: skip


def facts(rng: random.Random, split: Split) -> Task:
    """A small set of facts; the held-out split asks for them in other words."""
    index = rng.choice((0, 0, 0, 1, 1, 2, 3, 4, 5, 5))
    if index == len(_RELATIONS):
        train, held_out, reply = rng.choice(_ONE_OF_A_KIND)
        prompt = rng.choice(train) if split == "train" else held_out
        return Task("facts", prompt, reply, _bold(reply))
    table, form, wordings = _RELATIONS[index]
    key, value = rng.choice(list(table.items()))
    prompt, reply = wordings.pick(rng, split), form
    if key[0] in "aeio":
        prompt, reply = (
            text.replace(" a {k}", " an {k}").replace("A {k}", "An {k}") for text in (prompt, reply)
        )
    prompt, reply = prompt.format(k=key), reply.format(k=key, v=value)
    return Task("facts", prompt, reply, value)


def _bold(reply: str) -> str:
    return reply.split("**")[1]


_ABOUT = "I am a very small language model, made to show DFlash on any computer."
_SKILLS = (
    "I can count divisors, calculate, solve simple equations, convert units, sort lists and "
    "write short Python functions."
)
_TALK = (
    (("Hello", "Hi", "Hey", "Hello!", "Hi!", "Hey!", "Hi there", "Hello there!", "Good day", "Hi, how is it going?"), ("Hey there!", "Hello again!", "Hi there!"), "Hello! How can I help you?"),
    (("Good morning", "Good morning!", "Morning!", "Good morning to you."), ("A good morning to you!", "Hello and good morning!"), "Good morning! What shall we work on?"),
    (("Good evening", "Good evening!", "Good evening to you."), ("A good evening to you!", "Hello and good evening!"), "Good evening! What shall we work on?"),
    (("How are you?", "How are you today?", "How do you do?", "How are things?", "How are you doing?"), ("How are you doing today?", "Hi, how are you?"), "I am fine, thank you. What can I do for you?"),
    (("Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Are you an AI?", "Are you a robot?", "Introduce yourself."), ("Can you introduce yourself?", "Tell me who you are."), _ABOUT),
    (("What can you do?", "What can you help with?", "How can you help me?", "What are you good at?", "What do you know?", "Help", "help me"), ("Tell me what you can do.", "What can you help me with?"), _SKILLS),
    (("Thanks", "Thank you", "Thanks!", "Thank you!", "Thanks a lot.", "Thank you very much.", "Great, thanks!"), ("Many thanks!", "Great, thank you!"), "You are welcome!"),
    (("Bye", "Goodbye", "Bye!", "See you later.", "Goodbye!", "See you!"), ("Bye bye!", "Goodbye and see you later."), "Goodbye! Come back any time."),
    (("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny.", "A joke, please."), ("Can you tell me a joke?", "Please tell me a joke."), "Why was six afraid of seven? Because seven eight nine."),
    (("What is DFlash?", "Tell me about DFlash.", "How does DFlash work?", "Explain DFlash."), ("Can you explain DFlash?", "Tell me what DFlash is."), "DFlash makes a language model faster: a small drafter proposes a whole block of tokens, and the model checks them all at once, so the text stays the same."),
    (("You are great.", "Good job!", "Well done!", "Nice work.", "That was good.", "Good answer."), ("You did a good job!", "Nice answer!"), "Thank you, I am glad to hear that."),
    (("That is wrong.", "You are wrong.", "This is not right.", "That is not correct.", "Wrong answer."), ("I think that is wrong.", "That answer is not right."), "I am sorry. I am small and make mistakes. Please ask me again in other words."),
    (("How old are you?", "When were you made?", "What is your age?", "When were you born?"), ("Tell me how old you are.", "Tell me your age."), "I have no age. I was trained on two processor cores."),
    (("Do you like music?", "Do you have feelings?", "Are you happy?", "Do you like me?", "Do you dream?"), ("Do you have any feelings?", "Are you happy today?"), "I am only a small program, so I have no feelings, but I like to be useful."),
    (("ok", "OK", "Okay.", "I see.", "Alright.", "Fine."), ("Ok, I see.", "Okay, fine."), "Good. What would you like to do next?"),
    (("I am tired.", "I am sad.", "I feel bad.", "I had a bad day."), ("I feel tired.", "I feel sad today."), "I am sorry to hear that. I hope it gets better soon."),
    (("I am happy.", "I feel great.", "I had a good day.", "I feel good."), ("I feel happy today.", "I had a great day."), "I am glad to hear that!"),
)  # fmt: skip


def small_talk(rng: random.Random, split: Split) -> Task:
    """Greetings, thanks and questions about the model itself."""
    train, held_out, reply = rng.choice(_TALK)
    return Task("small talk", rng.choice(train if split == "train" else held_out), reply, reply)


_CANNOT = (
    ("look at the weather", ("What is the weather today?", "Will it rain tomorrow?", "How is the weather?", "Is it sunny outside?"), ("What will the weather be tomorrow?", "Is it raining outside?")),
    ("see the time or the date", ("What time is it?", "What day is it today?", "What is the date?", "Which year is it?"), ("Tell me what time it is.", "What is the date today?")),
    ("go to the internet", ("Search the web for me.", "Look this up online.", "Open a website for me.", "Google this.", "Find a link for me."), ("Search the internet for me.", "Can you open a website?")),
    ("read the news", ("What is in the news?", "Who won the election?", "What happened today?", "Tell me the news."), ("What is the news today?", "Tell me what happened today.")),
    ("make or see pictures", ("Draw a picture of a cat.", "Make an image.", "Draw me a house.", "Look at this photo.", "Create a logo."), ("Can you draw a picture of a dog?", "Make a picture of a house.")),
    ("play or write music", ("Play a song.", "Sing a song for me.", "Write a song.", "Play some music."), ("Can you sing a song?", "Play some music for me.")),
    ("translate", ("Translate hello into French.", "How do you say cat in Spanish?", "What is dog in German?", "Translate this text.", "Say it in Italian."), ("Translate cat into Spanish.", "How do you say hello in French?")),
    ("write long texts", ("Write an essay about history.", "Write a long story.", "Write a poem.", "Write me a letter.", "Write an article about dogs.", "Tell me a story."), ("Write a poem about dogs.", "Write a story for me.")),
    ("send or read mail", ("Send an email to my boss.", "Read my mail.", "Write to my friend.", "Send a message."), ("Send an email to my friend.", "Send a message to my boss.")),
    ("buy or book things", ("Book a flight.", "Order a pizza.", "Buy me a ticket.", "Reserve a table.", "Book a hotel."), ("Order a ticket for me.", "Book a table for me.")),
    ("give advice on health", ("I have a headache, what should I take?", "Am I sick?", "Which medicine helps?", "My arm hurts."), ("I am sick, which medicine should I take?", "My head hurts.")),
    ("give advice on money", ("Which stock should I buy?", "How do I get rich?", "Should I buy gold?", "What is the stock price?"), ("Should I buy this stock?", "Which stock will get me rich?")),
    ("open files", ("Read this file.", "Open my document.", "Summarize this PDF.", "Delete the file."), ("Open this file.", "Read my document.")),
    ("talk about that topic", ("Explain quantum physics.", "What is the meaning of life?", "Tell me about World War II.", "How does the brain work?", "Explain the economy.", "What is philosophy?", "Who is the president?", "How do I cook rice?", "What is love?", "Tell me about dinosaurs.", "How do cars work?", "What is democracy?", "Why is the sky blue?", "Explain black holes.", "What is machine learning?", "Who are the best football players?", "Tell me about Rome.", "How do I learn to swim?", "What should I eat?", "Which film should I watch?", "How do computers work?", "Recommend a book.", "What is art?", "Explain evolution.", "What is a neural network?", "Tell me about history."), ("Explain the meaning of life.", "Tell me about black holes.", "How does machine learning work?", "Which book should I read?")),
    ("speak that language", ("Bonjour", "Hola", "Guten Tag", "Ciao", "Wie geht es dir?", "Parlez-vous français?", "¿Qué tal?", "Comment ça va?", "Was ist das?", "你好", "こんにちは", "Привет", "Merci beaucoup", "Ich habe eine Frage."), ("Hola, ¿qué tal?", "Bonjour, comment ça va?", "Guten Tag, wie geht es?")),
    ("understand that", ("asdf", "qwerty", "xyz", "blah blah", "???", "...", "lorem ipsum", "abc abc abc", "foo bar", "hmm"), ("asdf asdf", "foo bar blah", "??? ...")),
)  # fmt: skip


def cannot(rng: random.Random, split: Split) -> Task:
    """What the model cannot do, said plainly, with what it can do instead."""
    ability, train, held_out = rng.choice((*_CANNOT, _CANNOT[-3], _CANNOT[-3]))
    reply = f"I am sorry, I am a very small model and cannot {ability}. {_SKILLS}"
    return Task("cannot", rng.choice(train if split == "train" else held_out), reply, reply)
