"""The types of the configuration of `recommendation/experiment.py`; see `configs.schema` for how
they are kept."""

from dataclasses import dataclass
from math import inf

from reelseek.configs.options import Options, Range, option, path_option


@dataclass
class ExperimentConfig(Options, command="experiment_effect"):
    events: str = path_option("the folder of the log, which `serve events=DIR` writes")
    name: str = option("of the experiment, which the arms of users come from")
    treatment_share: float = option("of users in the second arm", Range(above=0, below=1))
    surface: str | None = option("the list whose impressions count, such as search; default: all")
    since: float = option("Unix time in seconds from which events count", Range(0, below=inf))
    until: float | None = option("Unix time in seconds up to which they do; default: the end")
    long_view_seconds: float = option(
        "watched, from which a view is long", Range(above=0, below=inf)
    )
