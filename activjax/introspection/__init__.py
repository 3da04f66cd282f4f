"""Trained introspection: whether a model can learn to report what was put into its activations.

After "Training Introspective Behavior" (Fonseca Rivera 2025, arXiv 2511.21399) and "Mechanisms of
Introspective Awareness" (2026, arXiv 2603.21396).
"""

from activjax.introspection._ablate import ablate as ablate
from activjax.introspection._adapter import Bias as Bias, Full as Full, LoRA as LoRA
from activjax.introspection._bank import (
    ConceptBank as ConceptBank,
    concept_vectors as concept_vectors,
)
from activjax.introspection._contrast import contrast as contrast
from activjax.introspection._conversation import (
    Conversation as Conversation,
    conversation as conversation,
)
from activjax.introspection._conversation_texts import BASELINE as BASELINE, CONCEPTS as CONCEPTS
from activjax.introspection._evaluate import ask as ask, evaluate as evaluate
from activjax.introspection._features import (
    Features as Features,
    claims as claims,
    features as features,
)
from activjax.introspection._inject import (
    inject as inject,
    inject_vectors as inject_vectors,
    vectors_of as vectors_of,
)
from activjax.introspection._laboratory import Laboratory as Laboratory, laboratory as laboratory
from activjax.introspection._patching import (
    Patched as Patched,
    monotone as monotone,
    patch_units as patch_units,
)
from activjax.introspection._put import put as put
from activjax.introspection._rates import Rate as Rate, rate as rate
from activjax.introspection._reading import Reader as Reader
from activjax.introspection._report import Condition as Condition, Report as Report
from activjax.introspection._respond import respond as respond
from activjax.introspection._rows import KINDS as KINDS, Examples as Examples, Rows as Rows
from activjax.introspection._side_effects import (
    SideEffects as SideEffects,
    side_effects as side_effects,
)
from activjax.introspection._sweep import sweep as sweep
from activjax.introspection._talk import (
    Prompts as Prompts,
    Readings as Readings,
    Replay as Replay,
    Talk as Talk,
)
from activjax.introspection._templates import (
    Templates as Templates,
    parse_templates as parse_templates,
)
from activjax.introspection._train import Tuned as Tuned, train as train
from activjax.introspection._trials import MIX as MIX, Trials as Trials
