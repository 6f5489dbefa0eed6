"""Prints the tales of data/grimm.txt: those that the storyteller was trained on, or those that it never read.

  python3 tools/tales.py --held-out > heldout_tales.txt
  python3 tools/tales.py | head -c 20000

Tales stand in the order of the corpus with a line <|endoftext|> behind each. Standard library only.
"""

import argparse
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"
DATA = Path(__file__).resolve().parent.parent / "data"


def read_tales(corpus: Path, heldout: Path) -> tuple[list[str], list[str]]:
    """(training tales, held-out tales), each stripped of surrounding white space."""
    tales = [tale.strip() for tale in corpus.read_text(encoding="utf-8").split(END_OF_TEXT)]
    lines = heldout.read_text(encoding="utf-8").splitlines()
    numbers = {int(line.split("\t")[0]) for line in lines if not line.startswith("#")}
    held = [tale for number, tale in enumerate(tales, 1) if number in numbers]
    return [tale for number, tale in enumerate(tales, 1) if number not in numbers], held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true", help="the tales that training left out")
    trained, held = read_tales(DATA / "grimm.txt", DATA / "heldout.txt")
    for tale in held if parser.parse_args().held_out else trained:
        print(f"{tale}\n{END_OF_TEXT}")


if __name__ == "__main__":
    main()
