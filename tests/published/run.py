"""Runs the deprecated DiffEdit class's own published test-suite on `DiffEditPipeline`.

    pip install requests-mock parameterized
    python tests/published/run.py PATH-TO-A-CLONE-OF-DIFFUSERS [pytest arguments]

The suite left diffusers with version 0.35, so the clone needs its history. What is taken from it lies in a temporary
folder for the run: nothing of it is part of this project.
Nothing is asked from a hub: the suite's tokenizer is replaced by one of letters, and what loads a hub's model fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

LAST_WITH_THE_SUITE = "v0.34.0"
SUITE = "tests/pipelines/stable_diffusion_2/test_stable_diffusion_diffedit.py"
HUBS_TOKENIZER = 'CLIPTokenizer.from_pretrained("hf-internal-testing/tiny-random-clip")'
OLD, OURS = "StableDiffusionDiffEditPipeline", "DiffEditPipeline"


def main(arguments: list[str]) -> int:
    """Returns the exit status of pytest; 2 where the clone does not hold the suite."""
    if not arguments or not Path(arguments[0]).is_dir():
        print(f"usage: {__doc__}", file=sys.stderr)
        return 2
    clone, rest = arguments[0], arguments[1:]
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", clone, "archive", LAST_WITH_THE_SUITE, "tests"], stdout=subprocess.PIPE, check=False
        )
        if archive.returncode:
            print(f"'{clone}' has no tag {LAST_WITH_THE_SUITE}: fetch diffusers with its tags.", file=sys.stderr)
            return 2
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        suite = Path(folder) / SUITE
        text = suite.read_text()
        imported = f"    {OLD},\n"
        if imported not in text or HUBS_TOKENIZER not in text:
            print(f"{SUITE} does not import {OLD}, or makes no {HUBS_TOKENIZER}, as expected.", file=sys.stderr)
            return 2
        text = text.replace(HUBS_TOKENIZER, "letter_tokenizer()")
        # The classes of the suite keep their names; only what they test is another class.
        text = text.replace(imported, "").replace(f"= {OLD}\n", f"= {OURS}\n").replace(f"{OLD}.", f"{OURS}.")
        ours = (
            "from diffedit_bench.speed.models import letter_tokenizer\n"
            f"from diffedit_backend import {OURS}\n"
            f"import diffusers.pipelines\ndiffusers.pipelines.{OURS} = {OURS}\n"  # where the suite looks for its source
        )
        suite.write_text(text.replace("\nimport numpy as np\n", f"\nimport numpy as np\n{ours}", 1))
        # No settings of this project's tests: its warnings are errors, and theirs are not.
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            os.devnull,
            "--rootdir",
            folder,
            "-p",
            "no:cacheprovider",
            "-ra",
        ]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        return subprocess.run([*command, str(suite), *rest], cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
