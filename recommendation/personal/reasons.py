"""What is known of a user and a video -> reasons, in words for people."""

from collections.abc import Sequence

from reelseek.recommendation.learning.examples import VideoFacts
from reelseek.recommendation.personal.scorer import ASPECTS, PersonalScores

__all__ = ["personal_reasons"]

# That is worth to be said; codes of what videos show have errors.
_LEAST_LOGIT = {"author": 0.05, "tag": 0.05, "duration": 0.05, "content": 0.2}
_LEAST_CHOSEN = 3.0  # opened, or watched for long: from which it is often
_MAX_LETTERS = 60


def personal_reasons(scores: PersonalScores, videos: Sequence[VideoFacts]) -> list[tuple[str, ...]]:
    """Returns for each video what speaks for it, the strongest first; nothing where nothing does.

    Args:
        videos: that were scored.
    """
    found = []
    for video, logits, chosen in zip(
        videos, scores.logits.tolist(), scores.num_chosen.tolist(), strict=True
    ):
        telling = [
            (logit, _words(aspect, video))
            for aspect, logit, num in zip(ASPECTS, logits, chosen, strict=True)
            if logit >= _LEAST_LOGIT[aspect] and num >= _LEAST_CHOSEN
        ]
        found.append(tuple(words for _, words in sorted(telling, key=lambda pair: -pair[0])))
    return found


def _words(aspect: str, video: VideoFacts) -> str:
    if aspect == "author":
        return f"you often watch {_short(str(video.author))}"
    if aspect == "tag":
        return f"you often watch “{_short(video.tag)}”"
    if aspect == "content":
        return "it looks like what you watch"
    return "you often watch videos of about this length"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_LETTERS else f"{text[: _MAX_LETTERS - 1]}…"
