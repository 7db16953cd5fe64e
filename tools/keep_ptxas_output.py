"""Runs nvcc for CMake, and keeps what `make cuda-check` reads: the report of ptxas, and the PTX.

    keep_ptxas_output.py FOLDER NVCC ARGUMENT...

FOLDER/NAME then holds ptxas.txt and the PTX of NAME.cu.  check_cuda_resources.py --built FOLDER reads them.
"""

import shutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    kept, *command = sys.argv[1:]
    (source,) = (Path(word) for word in command if word.endswith(".cu"))
    folder = Path(kept) / source.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = ["-Xptxas=-v", "--keep", f"--keep-dir={folder}"]
    done = subprocess.run(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    for file in folder.iterdir():
        if file.suffix != ".ptx":
            file.unlink()
    if done.returncode:
        sys.stderr.write(done.stdout)
    else:
        (folder / "ptxas.txt").write_text(done.stdout, encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
