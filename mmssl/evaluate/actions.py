"""Action recognition with a frozen encoder: linear and attentive probe, tested on several clips and crops.

Probabilities are averaged, in float32, over the clips and crops of a video (Feichtenhofer et al.,
"SlowFast", ICCV 2019, section 4: 10 × 3 on Kinetics; Tong et al., "VideoMAE", NeurIPS 2022: 5 × 3, and 2 × 3
on Something-Something). UCF101 and HMDB51 have three official splits, and results are the mean over them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveInt
from torch import Tensor

from mmssl.evaluate.attentive import AttentiveFit, Chosen, fewer, fit_attentive
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.classify import Answered, Pair, Task, pose, within_pairs
from mmssl.evaluate.features import Features, all_tokens, joined, side_by_side, told, words_of
from mmssl.evaluate.linear import LinearFit, fit, log_mean, protocol
from mmssl.evaluate.looks import Look
from mmssl.stream.views.clip_crops import Crops

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

Splits = tuple[tuple[str, str], ...]
"""The split to fit on and the one to test on, or ``KEY=VALUE`` (``find_part``), for each official split."""


class RecognitionConfig(EvaluationConfig):
    """What every test of action recognition has."""

    encoder: str | None = None
    """By the name of the view it reads, or ``A+B`` for both; by default the only one there is."""
    clips: PositiveInt = 5
    """Clips of a video, evenly spread; image encoders see the frames that the stage says instead."""
    crops: Crops = 1
    """Crops of each tested clip; see ``CropsView``. Clips that are fitted on are cut in the centre."""
    labels: tuple[str, ...] = ()
    """Label names to classify by; empty = every label that both splits have."""
    pairs: tuple[Pair, ...] = ()
    """Pairs of class names that are also decided by themselves: ``[[standup, sitdown]]``."""
    splits: Splits = ()
    """To fit on and to test on, for each of several official splits; the score is their mean. With the shard
    sets of UCF101 and HMDB51 ``[[official.1=train, official.1=test], [official.2=train, official.2=test]]``
    and so on. By default the gallery and the queries of the stage."""


class ActionsConfig(RecognitionConfig):
    """Probes on frozen features, with multi-clip and multi-crop testing."""

    name: Literal["actions"] = "actions"
    linear: LinearFit | None = LinearFit()
    """On the pooled feature of a clip; null leaves it out."""
    attentive: AttentiveFit | None = AttentiveFit()
    """On the tokens of a clip (frames, contexts, cells of the feature map); null leaves it out."""


class Actions(Evaluation):
    """``actions/linear/LABEL`` and ``actions/attentive/LABEL``."""

    Config = ActionsConfig

    def run(self, subject: "Subject") -> list[Score]:
        return over_splits(subject, self.config.splits, lambda *split: self._split(subject, *split))

    def _split(self, subject: "Subject", gallery: str, queries: str) -> list[Score]:
        config = self.config
        shown = subject.looks(config.encoder, clips=config.clips)
        tested = subject.looks(config.encoder, clips=config.clips, crops=config.crops)
        fitted_on, asked = self._extract(subject, gallery, shown), self._extract(subject, queries, tested)
        scores = []
        for probe, features in fitted_on.items():
            about = told(words_of(tested), {gallery: features, queries: asked[probe]})
            posed = pose(subject, (gallery, queries), (features, asked[probe]), config.labels, about)
            views = max(look.views for look in shown.values()), max(look.views for look in tested.values())
            answers = [self._answer(probe, task, subject.seed, *views) for task in posed]
            scores += [answered.score(f"actions/{probe}") for answered in answers]
            scores += within_pairs(f"actions/{probe}", answers, config.pairs, subject.classes)
        return scores

    def _extract(self, subject: "Subject", split: str, looks: Mapping[str, Look]) -> dict[str, Features]:
        """Of each probe its features; those of several encoders side by side, their tokens all together."""
        found = [subject.extract(split, look, self._reads(subject, look)) for look in looks.values()]
        join = {"linear": side_by_side, "attentive": all_tokens}
        return {probe: joined([each[probe] for each in found], join[probe]) for probe in found[0]}

    def _reads(self, subject: "Subject", look: Look) -> Mapping[str, Callable[[Any], Tensor]]:
        """What is kept of every clip and crop, for each probe that was asked for."""
        config, encoder = self.config, look.clip_encoder
        reads: dict[str, Callable[[Any], Tensor]] = {}
        if config.linear is not None:
            reads["linear"] = lambda seen: look.each(seen, subject.device, encoder)
        if config.attentive is not None:
            most = config.attentive.tokens
            reads["attentive"] = lambda seen: look.each(
                seen, subject.device, lambda clips: fewer(encoder.tokens(clips), most)
            )
        return reads

    def _answer(self, probe: str, task: Task, seed: int, shown: int, tested: int) -> Answered:
        config = self.config
        if probe == "linear":
            linear = fit(task.x, task.y, task.classes, config.linear, seed)
            logits, words = linear.logits(task.queries), protocol(config.linear, linear)
        else:
            attentive = fit_attentive(task.x, task.y, task.classes, config.attentive, seed)
            logits, words = attentive.logits(task.queries), _protocol(config.attentive, task.x, attentive)
        many = f"fitted on {shown} centre crop clips of a sample, each a row of its own; "
        return Answered(task, log_mean(logits), f"{words}; {many}{averaged(tested)}")


def averaged(views: int) -> str:
    """How the answer for a video comes from those for its clips and crops."""
    return f"probabilities averaged in float32 over {views} views"


def over_splits(
    subject: "Subject", splits: Splits, run: Callable[[str, str], Sequence[Score]]
) -> list[Score]:
    """``run`` on each (gallery, queries), or on the subject's; of several the mean, and each one's value.

    The mean keeps the metric's name, and ``METRIC on QUERIES`` is that of one split.
    """
    found = [run(*split) for split in splits or ((subject.gallery, subject.queries),)]
    if len(found) == 1:
        return list(found[0])
    scores = []
    for same in zip(*found, strict=True):
        values = [score.value for score in same]
        chances = [score.chance for score in same if score.chance is not None]
        scores.append(
            replace(
                same[0],
                value=sum(values) / len(values),
                chance=sum(chances) / len(chances) if chances else None,
                protocol=f"mean over {len(same)} splits (tested on {', '.join(test for _, test in splits)}), "
                f"the first of which: {same[0].protocol}",
            )
        )
        scores += [
            replace(score, metric=f"{score.metric} on {test}", headline=False)
            for score, (_, test) in zip(same, splits, strict=True)
        ]
    return scores


def _protocol(config: AttentiveFit, tokens: Tensor, probe: Chosen) -> str:
    return (
        f"attentive probe, one query of {config.heads} heads over {tokens.shape[2]} standardised tokens "
        f"of a clip, AdamW {config.epochs} epochs, batch {config.batch_size}; "
        f"{len(config.lr)} learning rates × {len(config.weight_decay)} weight decays, "
        f"chosen lr={probe.lr:g}, weight decay={probe.weight_decay:g} at {100 * probe.validation:.1f} % on "
        f"{probe.held_out} held out of the gallery; queries scored once"
    )
