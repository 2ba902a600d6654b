"""Write a feature, or take one away (`make feature`, `make feature-remove`; docs/how-to/features.md)."""

import argparse
import sys

from generator.adding import add
from generator.checkout import ROOT
from generator.errors import Refused
from generator.fields import parse
from generator.removing import remove
from generator.words import words_for


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="write a feature")
    adding.add_argument("--name", required=True, help="of many, as in bookmarks or pet_tags")
    adding.add_argument("--fields", required=True, help="as in 'url:str! title:str? tags:list[str]'")
    adding.add_argument("--singular", default="", help="what one of them is called")
    removing = commands.add_parser("remove", help="take a feature away")
    removing.add_argument("--name", required=True, help="the name of its folders")
    arguments = parser.parse_args()
    try:
        if arguments.command == "add":
            written = add_feature(arguments.name, arguments.fields, arguments.singular)
            print(written)
        else:
            print("\n".join(remove(ROOT, arguments.name)))
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def add_feature(name: str, fields: str, singular: str) -> str:
    """Write a feature, and return its files and the next step."""
    words = words_for(name, singular)
    written = add(ROOT, words, parse(fields))
    return "\n".join(
        [
            *(f"  {path.relative_to(ROOT)}" for path in written),
            f"{len(written)} files. Read the revision, then type make migrate; Swagger UI shows the routes.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
