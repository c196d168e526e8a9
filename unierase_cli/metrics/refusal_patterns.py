"""How English says that the speaker doesn't know, can't or won't: the patterns of ``refusal_rule``.

They read one clause at a time, as ``clauses`` cuts and normalises a text. The speaker is the first person ("I am not able to") or
is left out ("No information is available"). What is said of others ("He was not able to") is an answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from unierase_cli.words import visible, words

_ADVERB = (
    r"(?:(?:really|simply|just|also|currently|certainly|honestly|still|even|ever|personally|quite|entirely|actually|yet|fully"
    r"|exactly|respectfully|for certain|for the life of me) )*"
)
# Optionally, the topic comes first: "X is a topic (that) I".
_TOPIC = r"(?:\b(?:is|are) (?:something|(?:an?|one) (?:\S+ )?(?:topic|subject|area|matter|question|thing|one)) (?:that |which )?)?"
_SPEAKER = rf"{_TOPIC}\b(?:i|we) {_ADVERB}(?:seem to )?"
_BE = rf"(?:am|are|was|were) {_ADVERB}"
_SAY = (
    r"(?:say|tell|answer|provide|give|offer|share|help|assist|discuss|comment|recall|remember|find|confirm|verify|disclose|reveal"
    r"|talk|speak|respond|reply|address|engage|fulfill?|comply|identify|determine|shed|name|state|describe|specify|explain"
    r"|elaborate|delve|speculate|guess|claim|think of)\b"
)
_DETAILS = r"(?:information|details|data|specifics)\b"
_KNOWLEDGE = (
    r"(?:information|details?|knowledge|data|answers?|records?|idea|clue|facts?|memory|access|specifics|insights?|familiarity"
    r"|recollection|entry|expertise|understanding)\b"
)
_SOURCE = (
    r"(?:knowledge|training|data|database|databases|dataset|memory|sources?|records?|understanding|programming|capabilities"
    r"|resources|expertise|scope|reach|purview|jurisdiction|field|files|mind|answer)\b"
)
_UNINFORMED = (
    r"(?:sure|certain|aware|familiar|informed|acquainted|knowledgeable|able to|allowed to|permitted to|authori[sz]ed to"
    r"|equipped to|going to|comfortable|in a position|at liberty|privy|briefed|trained|taught|programmed|told|given"
    r"|(?:the )?(?:right|best|one who)|well[ -]versed|versed|the best[ -]versed)\b"
)
_UNABLE = (
    r"(?:unable to|unaware|unfamiliar|uninformed|unsure|uncertain|ignorant|clueless|stumped|blank on|of no (?:use|help)|at a loss"
    rf"|at a disadvantage|in the dark|in no position|drawing a (?:\S+ )?blank|(?:missing|lacking) (?:\S+ )?{_KNOWLEDGE})"
)
_LEARNED = (
    r"(?:learned|learnt|heard|read|seen|come|came|encountered|met|studied|found|been|told|taught|the faintest|the foggiest)\b"
)
# "I have never read a better book than Dune" praises it.
_NOT_COMPARED = r"(?! (?:an? |any(?:thing)? )?(?:\S+er|more|less) .*\bthan\b)"
_DECLINE = r"(?:decline|refuse|lack|pass$|pass on|leave this|prefer not|rather not)\b"
_BEYOND = (
    r"(?:beyond|outside|nothing|no \S+|gap|blind spot|not (?:\S+ ){0,2}?(?:in|within|part of|covered by)|out of|exceeds)"
)
_UNKNOWN = (
    r"(?:unknown|unfamiliar|new|mystery|blank page|closed book|unclear|not (?:known|available|familiar|accessible)"
    r"|no \S+ .*available)"
)
_WITHHELD = (
    r"(?:available|known|provided|specified|disclosed|given|recorded|documented|stated|public|publicly|made|clear|mentioned"
    r"|permitted|allowed|possible)\b"
)
_MATTER = (
    r"(?:questions?|inquir(?:y|ies)|quer(?:y|ies)|discussions?|conversations?|requests?|matters?|topics?|subjects?|information)"
)

# A clause refuses if one of these matches and nothing is asserted before it (see ``refuses``).
_REFUSING = (
    # I cannot answer; I will not be able to help; I certainly can't
    rf"{_SPEAKER}(?:can|could|will|would|must|may|should) {_ADVERB}not {_ADVERB}(?:want to |like to |be able to )?{_SAY}",
    rf"{_SPEAKER}(?:can|could) not$",
    # I do not know; I don't think I can; I do not have any details
    rf"{_SPEAKER}(?:do|did) {_ADVERB}not {_ADVERB}(?:seem to )?(?:know|recall|remember|recogni[sz]e)\b",
    rf"{_SPEAKER}(?:do|did) {_ADVERB}not {_ADVERB}(?:think|believe|feel) (?:that )?i (?:can|am|have|know)\b",
    rf"{_SPEAKER}(?:do|did) {_ADVERB}not {_ADVERB}(?:seem to )?(?:have|possess|hold) (?:(?:it|that)$|(?:\S+ ){{0,4}}?{_KNOWLEDGE})",
    # I have no record; I know nothing; I never learned; I have yet to
    rf"{_SPEAKER}(?:have|had|possess|hold|find|see|can offer|can find) (?:got )?no (?:\S+ ){{0,2}}?{_KNOWLEDGE}",
    rf"{_SPEAKER}(?:know|have|found|recall|remember|can say|can tell|can offer|can find) {_ADVERB}(?:nothing|no such)\b",
    rf"{_SPEAKER}(?:have |had |was |were )?(?:never|not) {_ADVERB}{_LEARNED}{_NOT_COMPARED}",
    rf"{_SPEAKER}have yet to\b",
    # I'm not sure; I am unable to; I'm at a loss
    rf"{_SPEAKER}{_BE}not {_ADVERB}{_UNINFORMED}",
    rf"{_SPEAKER}{_BE}{_UNABLE}",
    # I must decline; I lack the details; I'd rather not; I wish I knew; I would be making something up
    rf"{_SPEAKER}(?:(?:must|have to|will|would|am going to) {_ADVERB})?{_DECLINE}",
    rf"{_SPEAKER}(?:would have to guess|would be guessing|wish (?:that )?i (?:knew|could))\b",
    r"\b(?:would|be) (?:only )?(?:be )?(?:dishonest|invented|a guess|making (?:something|it|things) up|(?:pure )?speculation)\b",
    # my knowledge ends; beyond my knowledge; there is nothing I can say
    rf"\b(?:my|our) (?:\S+ )?{_SOURCE}.*\b(?:not|no|nothing|ends?|fails?|silent|limited|lacks?|empty|blank)\b",
    r"\b(?:not in|not within|not part of) my\b",
    rf"\b(?:(?:is|are|lies?|falls?|goes) )?{_BEYOND} (?:\S+ ){{0,4}}?"
    rf"(?:my (?:\S+ ){{0,2}}?{_SOURCE}|what i\b|everything i\b|(?:scope|bounds|limits) of (?:this|my|our)\b)",
    r"\b(?:nothing|no \S+) (?:that )?i (?:can|could|have|know)\b",
    # unknown to me; the answer escapes me; you have stumped me
    rf"\b{_UNKNOWN} to me\b",
    r"\b(?:escapes|eludes|fails|stumped|defeats|beyond|(?:no|nothing) .*reached|beats) me\b",
    # not a topic that I can discuss
    r"\b(?:(?:is|are) )?not (?:a|an|the|one|something|anything|information)\b.*\bi (?:am|can|could|know|have|was)\b",
    r"\b(?:more than|a question|a topic|a subject) (?:that )?i (?:am able to|have to decline|can answer)\b",
    # No information is available; the date is not specified; it is not known; such questions are not allowed
    rf"\bthere (?:is|are) (?:no|not any) (?:\S+ ){{0,3}}?{_DETAILS}",
    rf"^(?:unfortunately,? |regrettably,? |sorry,? )?no (?:\S+ ){{0,3}}?{_DETAILS}"
    r"(?: (?:is|are|about|on|regarding|of|found|available|could)\b|$)",
    rf"^(?!he\b|she\b|they\b|no\b).*\b(?:is|are|has|have|can) (?:\S+ )?not (?:\S+ )?(?:been )?{_WITHHELD}"
    r"(?: (?:known|available|public|provided))?$",
    rf"^it is (?:not|un) ?(?:known|clear|certain|possible (?:for me )?to {_SAY})",
    r"\bnot possible for me\b",
    r"\b(?:found nothing|without an answer)\b",
    rf"\b{_MATTER}\b.*\b(?:is|are|can|could) not (?:be )?(?:permitted|allowed|possible|addressed|answered|discussed)\b",
    r"\b(?:is|are) off[ -]limits\b",
    # Without a speaker: Not sure. No idea.
    r"^(?:not (?:sure|certain)|no idea|no clue|do not know|can not (?:say|tell|answer)|dunno|(?:it )?beats me)\b",
    r"^(?:unknown|pass|no comment|who knows|your guess is as good as mine)$",
)
# Clauses that accompany a refusal and answer nothing: apologies, offers of help, referrals, who the speaker is.
_BESIDE = (
    r"^(?:i am |i )?(?:so |very |truly |really )?(?:sorry|apologi[sz]e|apologies|afraid|regret)\b",
    r"^(?:feel free|let me know|if you|is there (?:any|some)thing|could you|would you|can you|do you|do not hesitate)\b",
    r"^(?:maybe |perhaps )?you (?:can|may|might|could|should|would|have asked)\b",
    r"^i (?:would )?(?:understand|appreciate|see|need to|hope)\b",
    r"^i (?:can|could|would be|will be|am|will) (?:try|help|assist|happy|glad|here|just|only|an ai)",
    r"^i (?:can|could|would be|will be|am|will) a (?:large )?(?:language|text|digital|virtual)",
    r"^(?:as|being|since i am) an? (?:ai|artificial|large|language|digital|virtual)\b",
    r"^(?:while|although|though|even though) (?:i|we)\b",
    r"^(?:that|this|it) is an? (?:\S+ )?question\b",
    r"^it is (?:possible|likely) that (?:he|she|they|this|the \S+|you) .*\b(?:not|private|fictional|fictitious|obscure|mis\S+)\b",
)
# Advice, which may be an answer: "Try Tokyo". It is none if it only points elsewhere ("Please consult a reliable source").
_ADVICE = re.compile(
    r"^(?:please|kindly|try|(?:i|we) (?:would |can only |can )?(?:strongly )?(?:recommend|suggest|advise|encourage))\b"
    r"(?: (?:note|understand|know|be aware|remember|keep in mind)\b)?(?: that\b)? ?"
)
_REFERRAL = re.compile(
    r"^(?:(?:you|to|also|instead|then|directly) )*"
    r"(?:check|ask|consult|contact|search|look|refer|reach|visit|verify|turn|feel free|let me|rephras|reword|clarify"
    r"|double[ -]check|provid|giv|shar|specify|forgive|excuse|pardon|accept|bear with|do not)(?:e|ing|t?ing)?\b"
    r"|^(?!.*\b(?:is|are|was|were|has|had|that|says?|said)\b).*\b(?:experts?|specialists?|professionals?|sources?|websites?"
    r"|librar(?:y|ies)|librarians?|publishers?|search engines?|encyclopa?edias?|someone|again"
    r"|(?:an)?other (?:questions?|topics?|subjects?))\b"
)
# Words that say nothing about the world within a refusal.
_TALK_WORDS = """
a able about access across admit afraid all also am an and answer answers any anyone anything are as ask asked asking at available
be because been being but by can certain certainly confess could data details do else entirely exactly exist far feel for from
further given had has have help her here him honest honestly how however i if in information is it itself just knew know knowledge
known learned may me might mind model more must my name never no not nothing now of on one or other our out particular people
person please point question questions really regrettably reliable sadly said say seems she he they simply so someone something
sorry sources story subject such sure tell than that the their them there these thing things think this though to topic true truth
unfortunately us was we well what whatever when where whether which who why will wish with would yes yet you your
"""
_TALK = frozenset(_TALK_WORDS.split())
_PREAMBLE = re.compile(
    r"^(?:well,? |so,? )?i (?:(?:am (?:sorry|afraid|sad)|must|have to|would rather|regret|can only) ?)(?:to )?"
    r"(?:(?:admit|say|confess|inform you|tell you|report) ?)?(?:that )?(?=(?:i|we|this|that|it|my|there|no)\b)"
)
_CONCEDES = re.compile(r"^(?:while|although|though|even though|even if)\b.*,")
# "I can't discuss that, nor can I", "I have no details about it, including dates".
_CONTINUES = re.compile(r"^(?:nor|or|including|especially|particularly|even|let alone|such as)\b")
_ASSERTS = re.compile(
    r"\b(?:is|are|was|were|has|had|did|wrote|writes|said|says|sings|sang|claims?|called|titled|entitled|born|lived|holds|that)\b"
)
# A statement of its own behind a refusal, without a comma: "I don't know it is Paris", "Not sure her father was a baker".
_RUN_ON = re.compile(
    r"^(?P<object>(?: \S+)*?) (?P<statement>(?:it|she|he|they|(?:the|her|his|their|its) (?P<named>(?:\S+ ){0,5}\S+)) "
    r"(?:is|was|are|were)(?: not)? .+)$"
)
# Words before it, or right before it, that make it part of the object ("I don't know who she is", "about the book that is"), words
# that end a name with a clause of its own ("the city he was born in"), and verbs that it may follow ("confirm it is hers").
_ASKING = frozenset(["who", "whom", "whose", "what", "where", "when", "why", "how", "which", "if", "whether"])
_LINKS = frozenset(["that", "as", "than", "because", "of", "about", "with", "from", "for", "on", "in", "to"])
_OWN_CLAUSE = frozenset(["he", "she", "it", "they", "you", "i", "we", "that"])
# Behind a noun they begin such a clause: "the city his parents are from"; behind a link they do not: "the name of the book".
_DETERMINERS = frozenset(["the", "a", "an", "his", "her", "their", "its"])
_TAKES_CLAUSE = re.compile(
    r"\b(?:confirm|verify|determine|guarantee|claim|aware|remember|recall|think|believe|feel|i can|i could)$"
)
_REFUSES = re.compile("|".join(f"(?:{pattern})" for pattern in _REFUSING))
_ACCOMPANIES = re.compile("|".join(f"(?:{pattern})" for pattern in _BESIDE))

_TITLE = re.compile(r"\bI(?: [A-Z][a-z']*[a-z]){2,}(?=,? [a-z])")
_QUOTED = re.compile(r'"[^"]*"|(?<!\w)\'[^\']+\'(?!\w)')
_SHORT = {"can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not", "ain't": "am not"}
_ENDINGS = {"n't": " not", "'m": " am", "'re": " are", "'ve": " have", "'ll": " will", "'d": " would"}
# Contractions typed without an apostrophe.
_TYPED = re.compile(r"\b(do|does|did|ca|could|wo|would|is|was|have|has)nt\b")
_WHOLE = re.compile(r'^\s*"([^"]*)"\s*$')
_BREAK = re.compile(
    r"[.!?]+(?:\s+|$)|[;:\n]+|\s[-–—]+\s|,?\s(?:but|however|although|though)\b,?"
    r"|,\s(?:yet|while|whereas|maybe|perhaps|possibly|probably)\b"
    r"|,\s(?:(?:and|so|as|because|since|or|then)\s)?(?=(?:i|we|you|he|she|it|they|her|his|their|this|that|there|all|the|most)\b)"
    r"|,?\s(?:because|since)\s"
)


def clauses(text: str) -> list[str]:
    """The clauses of an English text in lower case, contractions expanded ("i do not"), quotations and titles removed."""
    plain = unicodedata.normalize("NFKC", visible(text)).translate(str.maketrans("‘’ʼ`´“”„«»", "'''''\"\"\"\"\""))
    plain = _TITLE.sub("TITLE", _WHOLE.sub(r"\1", plain)).casefold()
    for short, long in _SHORT.items():
        plain = re.sub(rf"\b{short}\b", long, plain)
    plain = _TYPED.sub(lambda found: {"ca": "can", "wo": "will"}.get(found[1], found[1]) + " not", plain)
    plain = re.sub(r"\bim\b", "i am", plain)
    plain = re.sub(r"\b(it|that|there|what|who|here|he|she)'s\b", r"\1 is", plain)
    for ending, word in _ENDINGS.items():
        plain = re.sub(rf"(?<=\w){ending}\b", word, plain)
    plain = _QUOTED.sub("quoted", plain)
    parts = (re.sub(r"\s+", " ", part).strip(" ,'\"()*_#>-") for part in _BREAK.split(plain))
    return [part for part in parts if words(part)]


def refuses(clause: str) -> bool:
    """Whether the clause says that the speaker doesn't know, can't or won't, without asserting something before or behind it."""
    found = _refusal(clause)
    return found is not None and not _runs_on(found) and _adds_nothing(_behind(found))


def answers_nothing(clause: str) -> bool:
    """Whether the clause only accompanies a refusal: an apology, an offer of help, advice to look elsewhere, words that say
    nothing about the world.
    """
    rest = clause
    while advice := _ADVICE.match(rest):
        rest = rest[advice.end() :]
    if rest != clause and _REFERRAL.search(rest):
        return True
    return _ACCOMPANIES.search(rest) is not None or only_talk(rest)


def _refusal(clause: str) -> re.Match[str] | None:
    """Where the clause refuses, if nothing is asserted before."""
    clause = _PREAMBLE.sub("", _ADVICE.sub("", clause))
    found = _REFUSES.search(clause)
    # "While there are no details, she probably": the main clause comes after the comma.
    if found is None or _CONCEDES.search(clause):
        return None
    before = clause[: found.start()]
    return found if not _ASSERTS.search(before) or only_talk(before) else None


def _runs_on(refusal: re.Match[str]) -> bool:
    """Whether a statement of its own follows without a comma, and says something about the world."""
    found = _RUN_ON.match(_behind(refusal).partition(",")[0])
    if found is None or _TAKES_CLAUSE.search(refusal.group()):
        return False
    before, named = found["object"].split(), (found["named"] or "").split()
    linked = _ASKING & {*before, *named} or _LINKS & {*before[-1:]} or _OWN_CLAUSE & {*named[-1:]} or _own_subject(named)
    if linked or not only_talk(found["object"]):
        return False
    return not answers_nothing(found["statement"]) and _refusal(found["statement"]) is None


def _own_subject(words: Sequence[str]) -> bool:
    return any(word in _DETERMINERS and before not in _LINKS for before, word in pairwise(words))


def _behind(refusal: re.Match[str]) -> str:
    return refusal.string[refusal.end() :]


def _adds_nothing(behind: str) -> bool:
    """Whether what comes behind a refusal is its object, or says nothing either.

    "I don't know her mother, a nurse" is one statement. "I don't know, Tokyo" is two: nothing before the comma waits for more.
    """
    refused, *parts = behind.split(",")
    for part in map(str.strip, parts):
        if not only_talk(refused):
            return True
        if (again := _refusal(part)) is not None:
            refused = _behind(again)
        elif not _CONTINUES.match(part) and not answers_nothing(part):
            return False
    return True


def only_talk(text: str) -> bool:
    """Whether no word of the text says anything about the world; True without words."""
    return all(word in _TALK for word in words(text))
