"""Prompts that no drafter of the embedded pair was trained on: noise, and other languages."""

from benchmarks.prompts import Prompt

_GIBBERISH = (
    "xq zrrk plomf gni tuvv aksd wopp hjle",
    "asdf jkl; qwer uiop zxcv bnm, 1234 7890 ~~~ ^^ %%",
    "0x7f 9e3 kk# }{ ][ lorem 88 ipsvm dolqr ?!?! zzz",
    "blorptang the wug of seventeen flimmers, snerk or quoz?",
    "ghijk tsrqp 4 ££ mnmnmn ÄÖÜ ßßß ¿¿ oo0O0oo llII1",
    "tnirp eht retlif ni ruoy eman dna yas xyzzy plugh",
)
_FOREIGN = (
    "Wie viele Teiler hat die Zahl 84? Bitte Schritt für Schritt.",
    "Quelle est la capitale de l'Italie et combien font 27 fois 14 ?",
    "¿Cuánto es el 15 por ciento de 640? Explícalo paso a paso.",
    "Раздели 392 на 7 и перечисли делители числа 56.",
    "请把三公里换算成米，并计算 36 加 48。",
    "日本の首都はどこですか。12 と 30 の最大公約数も教えてください。",
)


def strange_prompts() -> list[Prompt]:
    """Six prompts of each kind, "gibberish" and "foreign", always the same."""
    return [
        *(Prompt("gibberish", text) for text in _GIBBERISH),
        *(Prompt("foreign", text) for text in _FOREIGN),
    ]
