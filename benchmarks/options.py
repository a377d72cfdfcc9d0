"""The `name=value` arguments of a benchmark."""

import argparse


def parse_options(doc: str | None, **defaults: str | None) -> dict[str, str]:
    """Reads them, and ends the process with the usage where one is unknown or missing.

    Args:
        doc: the benchmark's own, which `--help` prints.
        defaults: of each option; None where it must be given.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("options", nargs="*", metavar="name=value")
    given = dict(argument.partition("=")[::2] for argument in parser.parse_args().options)
    unknown = given.keys() - defaults.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    options = {name: given.get(name, default) for name, default in defaults.items()}
    missing = [name for name, value in options.items() if value is None]
    if missing:
        parser.error(f"missing: {', '.join(missing)}")
    return {name: value for name, value in options.items() if value is not None}
