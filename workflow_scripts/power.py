"""Estimate whether a larger study would reach a verdict, by resampling the predictions of this study's probes."""

from pathlib import Path

import pandas as pd

from reprise.identity import seed_from
from reprise.probing.representations import EVIDENCE, of_probe, with_role
from reprise.report.power_page import render_power
from reprise.storage.files import read_records, write_json, write_text
from reprise.verdict.power import ProbeThresholds, advice, advice_text, make_pilot, power
from reprise.workflow.job import log, start

settings = start(snakemake)
inputs, outputs = snakemake.input, snakemake.output
thresholds = ProbeThresholds(**settings["verdict"], alpha=settings["alpha"])
names = [Path(path).stem for path in inputs.probes]
records = dict(zip(names, read_records(inputs.probes).to_dict("records"), strict=True))
predictions = {Path(path).stem: pd.read_parquet(path) for path in inputs.predictions}
seed = seed_from("power", settings["study"])[0]
evidence = with_role((of_probe(name)[0].name for name in names), EVIDENCE)
pilot = make_pilot(predictions, records, evidence=evidence, seed=seed)
if pilot is None:
    table, record = pd.DataFrame(columns=["axis"]), {"sentence": "", "note": "no probe was scored"}
    log.warning("no simulation: %s", record["note"])
else:
    table = power(pilot, thresholds, seed=seed)
    n_prompts = int(pilot.prompt.max()) + 1
    found = advice(table)
    sentence = advice_text(found, n_prompts=n_prompts, units=settings["units"])
    record = {"n_prompts": n_prompts, "advice": found, "sentence": sentence, "note": ""}
    log.info("%s", sentence)
write_json(Path(outputs.record), record | {"table": table.to_dict("records")})
write_text(Path(outputs.table), table.to_csv(sep="\t", index=False, float_format="%.4g"))
write_text(Path(outputs.page), render_power(settings["study"], record, table))
