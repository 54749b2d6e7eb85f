"""Builds the site of the documentation from docs/, the files beside it and the docstrings; warnings are errors."""

import argparse
import shutil
import sys
from pathlib import Path

from reference import pages
from sphinx.cmd.build import main as sphinx

from sources import Fault, Sources

ROOT = Path(__file__).parents[2]


def build(root: Path, out: Path, work: Path) -> int:
    """The exit status: 0 if the site was built without a warning."""
    sources = Sources(root)
    try:
        sources.gather(pages())
    except Fault as faults:
        print(*faults.args, sep="\n", file=sys.stderr)
        return 1
    sources.write(work / "sources")
    shutil.rmtree(out, ignore_errors=True)
    here = str(Path(__file__).parent)
    quiet = ["--quiet", "--fail-on-warning", "--keep-going", "--jobs", "2", "--doctree-dir", str(work / "doctrees")]
    return sphinx([*quiet, "--builder", "html", "--conf-dir", here, str(work / "sources"), str(out)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with docs/ (default: this clone)")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "site", help="(default: target/site)")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "site-work", help="(default: target/site-work)")
    options = parser.parse_args()
    sys.exit(build(options.root.resolve(), options.out, options.work))
