import random

import pytest

from reelseek.configs.arguments import list_items, prepare_arguments
from reelseek.configs.composition import _compose, compose
from tests.command_lines import SCHEMAS


def config_object(name, *arguments):
    return compose(SCHEMAS[name], arguments)


# Lists are taken as they are written.


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("[SubsPlease] Show - 01 (1080p).mkv", ["[SubsPlease] Show - 01 (1080p).mkv"]),
        ("[2024] trip [raw]", ["[2024] trip [raw]"]),
        ("[[2024] trip [raw],b]", ["[2024] trip [raw]", "b"]),
        ("[[2024]]", ["[2024]"]),
        ("[2024_01,2024_02]", ["2024_01", "2024_02"]),
        ("[1e3,0x1f,null,true,nan,1_0]", ["1e3", "0x1f", "null", "true", "nan", "1_0"]),
        ("[a (1).mp4,b.mp4]", ["a (1).mp4", "b.mp4"]),
        ("[ a b.mp4 , c.mp4 ]", ["a b.mp4", "c.mp4"]),
        ("a, b.mp4", ["a, b.mp4"]),
        ('["a, b.mp4",c.mp4]', ["a, b.mp4", "c.mp4"]),
        ("['it's, really.mp4',c.mp4]", ["it's, really.mp4", "c.mp4"]),
        ('["a]b.mp4",c.mp4]', ["a]b.mp4", "c.mp4"]),
        ("[it's.mp4,'tis.mp4]", ["it's.mp4", "'tis.mp4"]),
        ("[[a, b] c.mp4,d.mp4]", ["[a, b] c.mp4", "d.mp4"]),
        ("[a[.mp4,b.mp4]", ["a[.mp4", "b.mp4"]),
        ("[日本語.mp4,кот.mp4,قط.mp4]", ["日本語.mp4", "кот.mp4", "قط.mp4"]),
        (
            "[a&b.mp4,c=d.mp4,${x}.mp4,~/e,{f:g}]",
            ["a&b.mp4", "c=d.mp4", "${x}.mp4", "~/e", "{f:g}"],
        ),
        ("[C:\\a\\,D:\\]", ["C:\\a\\", "D:\\"]),
        ("[", ["["]),
        ("[]", []),
        ("", []),
        ("null", []),
        ("[a,,b,]", ["a", "b"]),
    ],
)
def test_lists_are_taken_as_written(value, items):
    assert list_items(value) == items
    overrides = prepare_arguments([f"keys={value}"], SCHEMAS["delete"])
    assert list(_compose(SCHEMAS["delete"], overrides)["keys"]) == items


def test_names_without_commas_and_brackets_arrive_in_any_list():
    rng = random.Random(0)
    pieces = [*"'\"\\${}()=:#!%&|<>*?~^@;/+- \t\n\x7f\u2028", *"aZ09.\u00e9\u65e5\U0001f408\udc80"]
    for _ in range(25):
        names = ["".join(rng.choices(pieces, k=rng.randint(1, 9))).strip() for _ in range(36)]
        names = [f"x{name}x" for name in names]
        value = f"[{','.join(names)}]"
        assert config_object("delete", "index=i", f"keys={value}").keys == names
        assert list_items(names[0]) == names[:1]


@pytest.mark.parametrize("name", ["keys", "--keys"])
def test_a_list_may_be_given_name_by_name(name):
    config = config_object("delete", "index=i", f"{name}=a, [b]", f"{name}=[c,d]")
    assert config.keys == ["a, [b]", "c", "d"]


# Dashes, as other command lines have them.


@pytest.mark.parametrize(
    ("arguments", "prepared"),
    [
        (["--query", "a dog", "--index=i"], ["query='a dog'", "index='i'"]),
        (["--json", "-k", "5"], ["json=true", "k=5"]),
        (["--json", "no", "--explain"], ["json=false", "explain=true"]),
        (["--min-confidence", "0.5"], ["min_confidence=0.5"]),
        (
            ["--query=-5 degrees", "--where", "a = '--b'"],
            ["query='-5 degrees'", r"where='a = \'--b\''"],
        ),
        (["--sources", "[picture]", "--"], ["sources=['picture']"]),
        (["json=YES", "analyze=off"], ["json=true", "analyze=false"]),
    ],
)
def test_dashes_mean_the_same(arguments, prepared):
    assert prepare_arguments(arguments, SCHEMAS["search"]) == prepared


@pytest.mark.parametrize(
    ("config_name", "arguments", "message"),
    [
        ("search", ["--query"], "--query has no value; give --query VALUE or query=VALUE"),
        ("search", ["--query", "--json"], "--query has no value"),
        ("search", ["-q", "x"], "unknown option q; near names: query"),
        ("search", ["--qeury", "x"], "unknown option qeury; near names: query"),
        ("search", ["--cfg", "job"], "unknown option cfg"),
        ("index", ["--min-frames", "1"], "unknown option min_frames"),
        ("index", ["decoding.workers=1.5"], "decoding.workers=1.5: must be a whole number"),
        ("index", ["--index.recall", "high"], "index.recall=high: must be a number"),
        ("index", ["segments=windows"], "segments=windows: has parts of its own"),
        ("index", ["segments.kind=shots"], "segments.kind=shots: must be one of scenes, windows"),
        ("index", ["prune=maybe"], "prune=maybe: must be true or false"),
        ("index", ["sampling.every_seconds=x"], "sampling.every_seconds=x: must be a number"),
        ("train", ["loop.epochs=1,2"], "loop.epochs=1,2: must be a whole number"),
        ("train", ["pooling.kind=max"], "pooling.kind=max: must be one of mean, transformer"),
    ],
)
def test_what_cannot_be_meant_is_one_line(config_name, arguments, message):
    with pytest.raises(ValueError, match="^" + message.replace("|", r"\|")) as caught:
        prepare_arguments(arguments, SCHEMAS[config_name])
    assert "\n" not in str(caught.value)


def test_dashes_name_the_folder_of_an_index():
    assert prepare_arguments(["--index", "i"], SCHEMAS["index"]) == ["index.folder='i'"]
