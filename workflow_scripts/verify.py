"""Read all stores of the studies and compare each file with its manifest. Fails if a file differs."""

import sys
from pathlib import Path

from reprise.storage.artifacts import store_of
from reprise.storage.errors import StoreError
from reprise.storage.files import foreign_files, foreign_in_words, manifest_path, read_manifest
from reprise.workflow.job import log, progress, start

settings = start(snakemake)
# The ablations are only known from the files.
found = [file for folder in settings["folders"] for file in Path(folder).rglob("*.manifest.json")]
stores = sorted({store_of(str(file)) for file in found} | set(map(Path, settings["stores"])))
broken, beside, missing = [], [], 0
for path in progress(stores, total=len(stores), what="stores"):
    if not path.exists() and not manifest_path(path).exists():
        missing += 1  # never made, or the next run makes it again
        continue
    try:
        if foreign := foreign_files(path, read_manifest(path, verify="content")):
            beside.append(f"store {path}: {foreign_in_words(foreign)}")
    except StoreError as error:
        broken.append(str(error))
        log.error("%s", error)
n_whole = len(stores) - missing - len(broken)
print(f"{n_whole} stores are intact, {len(broken)} are damaged, {missing} do not exist yet.")
for line in broken + beside:
    print(f"- {line}")
if broken:
    sys.exit(1)
