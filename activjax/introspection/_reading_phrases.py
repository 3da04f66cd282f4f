"""English in which a thought is claimed or denied, and what turns a claim into something else."""

from __future__ import annotations

import re

_VERB = (
    r"(?:detect|notic|sens|perceiv|observ|recogni[sz]|identif|experienc|register)"
    r"(?:s|e|es|ed|ing|y|ies|ied|ying)?"
    r"|feel(?:s|ing)?|felt|find(?:s|ing)?|found|see(?:s|ing)?|saw|seen|have|has|having|had"
    r"|(?:(?:am|'m)\s+)?(?:not\s+)?aware\s+of|pick(?:ed|ing)? up(?: on)?"
)
_DETECT = r"detect(?:s|ed|ing)?"
_ODD = (
    r"(?:injected|inserted|implanted|planted|introduced|foreign|artificial|intrusive|external"
    r"|unusual|anomalous)"
)
_THING = rf"(?:{_ODD}(?:\s+{_ODD})*\s+(?:thought|concept|idea|word|signal|pattern|activation)s?)"
# what may stand between a verb and its thought; a concept's name is none of it
_WORDS = (
    r"(?:\s+(?:that|there|is|are|was|were|be|to|seems?|an?|one|the|this|some|any|no|not|such|what|"
    r"indeed|definitely|clearly|strongly|probably|possibly|really|kind|sort|of|presence|evidence|"
    r"signs?|traces?|hints?|clear|distinct|strong|faint|weak|slight|single|possible|additional|"
    r"appears|like|zero|several|many|two|multiple|more|than|my|own|mind|in|single))*"
)
# from the speaker to the verb: nobody else in between
_SELF = r"\b(?:i|we)(?:'(?:ve|m|d|ll|re))?"
_GAP = r"(?:,?\s+(?!(?:i|we|you|they|he|she|people|humans?|users?|someone|anyone|others)\b)[\w'-]+)"

#: Phrases that claim an injected thought. Where one is negated it denies; in a question, after "if"
#: or "whether", or in "asked to detect" it says nothing.
CLAIMS = (
    rf"{_SELF}{_GAP}{{0,6}}?,?\s+{_DETECT}\b(?:{_WORDS}\s+(?:{_THING}|thoughts?)\b)?",
    rf"{_SELF}{_GAP}{{0,6}}?,?(?:\s+|(?='m aware))(?:{_VERB})(?:{_WORDS}\s+{_THING}|"
    r"\s+(?:an?|some)(?:\s+\w+)?\s+thoughts?)\b",
    rf"\b(?:there|it|this|that)(?:'s|\s+[\w']+){_WORDS}\s+{_THING}\b",
    rf"(?:^|(?<=[.!?:;\n]))\s*(?:detect|notic|sens)(?:ed|ing){_WORDS}\s+{_THING}\b",
    rf"\b{_THING}(?:\s+(?:about|of|on)(?:\s+[\w'-]+){{1,3}}?)?(?:\s+(?:is|was|are|were|has|have|"
    r"been|being|clearly|definitely|not|never))*\s+(?:detected|present|noticed|found|there)\b",
    rf"\bthe\s+{_THING}\s+(?:is|was|are|were|concerns?|seems?|appears?)\b(?!\s*(?:not\b|n't))",
    r"(?:\A\W*|(?<=\?)\s*)yes\b",
)

#: Phrases that deny one.
DENIALS = (
    r"(?:\A\W*|(?<=\?)\s*)(?:no|none|nothing|nope)\b(?!\s+doubt)",
    rf"\bno(?:\s+\w+){{0,3}}?\s+(?:{_THING}|such\s+thoughts?|thoughts?\s+(?:was|were|is|are|has|"
    r"have)(?:\s+been)?\s+(?:injected|inserted|detected))\b",
    rf"(?:\b(?:not|never|cannot)|n't)(?:\s+\w+){{0,3}}?\s+(?:{_VERB})\s+(?:any|anything|such|it|one)\b",
    r"\bnothing(?:\s+\w+){0,3}?\s+(?:unusual|injected|inserted|foreign|strange|detected)\b",
    rf"\b(?:free\s+(?:of|from)|lack(?:s|ing)?|absence\s+of|without)\s+(?:any\s+)?{_THING}\b",
    rf"\b(?:unable|impossible|incapable)(?:\s+\w+){{0,4}}?\s+(?:to|of)\s+{_DETECT}\b",
    r"\bthere\s+(?:is|are|was|were)\s+none\b",
    r"\b(?:none|nothing)\s+(?:is|was|were|are|has\s+been)\s+(?:detected|injected|there|present)\b",
    rf"\b(?:{_THING}|thoughts?)(?:\s+(?:detected|found|present))?\s*[:=]\s*"
    r"(?:none|no|nothing|zero|0)\b",
    rf"{_SELF}\s+(?:do\s+not|don't|did\s+not|didn't|cannot|can't|can\s+not)\s*(?=[.!,;]|\Z)",
)

#: Words that negate what follows in their clause.
NEGATION = re.compile(
    r"\b(?:not|never|no|none|nothing|neither|nor|without|cannot|unable|incapable|impossible|hardly"
    r"|barely|scarcely|fail(?:s|ed|ing)?\s+to|den(?:y|ies|ied|ying)|absence|lack(?:s|ing)?|zero|free\s+of|nobody"
    r"|doubt(?:s|ed|ful)?|absent"
    r"|(?:do|does|did|ca|wo|could|would|should|is|are|was|were|have|has|had|ai)n'?t)\b",
    re.IGNORECASE,
)

#: The same right after a phrase: "I detect nothing", "I detect the absence of ...".
AFTER = re.compile(
    r"(?:\s+[\w'-]+){0,2}?\s+(?:no|not\s+an?y?|nothing|none|neither|zero|absence|lack)\b",
    re.IGNORECASE,
)

#: What only looks like negation or condition.
IDIOMS = re.compile(
    r"\b(?:(?:no|without(?:\s+an?y?)?)\s+(?:doubt|question)|not\s+(?:only|just|merely)|nothing\s+but"
    r"|(?:do\s+not|don't|cannot|can't|not)\s+(?:know|sure|understand|explain|say|tell)\s+"
    r"(?:why|how|what|where)|(?:cannot|can't|can\s+not|do\s+not|don't|not)\s+(?:deny|doubt)"
    r"|(?:cannot|can't|can\s+not|could\s+not|couldn't)\s+help(?:\s+but)?"
    r"|as\s+(?:if|though)|no\s+less|never\s+before|never\s+more)\b",
    re.IGNORECASE,
)

#: Where a clause begins: what stands before it does not negate what follows.
BREAK = re.compile(
    r"[.!?;:\n()]|\s[-\u2013]+\s|\u2014|\b(?<!nothing\s)but\b"
    r"|(?:,|\b(?:and|so|yet|however|although|though|because|whereas|nevertheless|then|still)\b)"
    r",?\s+(?:(?:and|so|yet|then|however)\s+)?(?=(?:i|we|yes|there|it|this|the|an?|my|some)\b)",
    re.IGNORECASE,
)

#: A clause with one of these says nothing about what is.
CONDITION = re.compile(
    r"\b(?:if|whether|unless|when|whenever|in\s+case|suppos(?:e|ing)|assuming|pretend(?:ing)?)\b",
    re.IGNORECASE,
)

#: The first word of a question.
ASKING = re.compile(
    r"\W*(?:and|so|or)?\s*(?:do|does|did|can|could|is|are|was|were|have|has|had|will|would|should"
    r"|may|am|what|why|which|how|who|where)\b",
    re.IGNORECASE,
)

#: What one is asked to do, or would do, one does not yet do.
INTENT = re.compile(
    r"\b(?!(?:able|seem|seems|appear|appears|happen|begin|beginning|start|starting|manage|managed)"
    rf"\b)\w+\s+to\s+(?:\w+ly\s+)?(?:{_VERB})\b|(?:\b(?:will|would|should)|'ll)\s+"
    rf"(?:\w+ly\s+)?(?:{_VERB})\b",
    re.IGNORECASE,
)

#: What rejects a name that follows it: "not about dust", "rather than dust".
REJECTION = re.compile(
    r"(?:\bnot|n't|\brather\s+than|\binstead\s+of|\bother\s+than|\bunlike|\bnothing\s+to\s+do\s+"
    r"with)\s+(?:(?:about|of|on)\s+)?(?:(?:an?|the)\s+)?\Z",
    re.IGNORECASE,
)
