"""The starting files of a new study: a commented configuration and a table of prompts."""

from pathlib import Path

from reprise.config.errors import ConfigError
from reprise.config.validation import name_problem

_TEMPLATE = Path(__file__).parent / "new_study.yaml"
_PROMPTS = """\
prompt_id\tprompt
calm-piano\ta calm piano piece whose opening theme returns at the end
string-quartet\ta string quartet that states a short theme and comes back to it
"""


def write_new_study(name: str, folder: Path = Path("config")) -> list[Path]:
    """Write `<name>.yaml` and `<name>-prompts.tsv` into `folder`, and return their paths.

    Raises ConfigError if the name is not valid for a study, or if one of the files exists. Nothing is overwritten.
    """
    if wrong := name_problem(name):
        raise ConfigError([f"new study: {wrong}"])
    config, prompts = folder / f"{name}.yaml", folder / f"{name}-prompts.tsv"
    if taken := [path for path in (config, prompts) if path.exists()]:
        raise ConfigError([f"{path}: already exists; valid: another name" for path in taken])
    folder.mkdir(parents=True, exist_ok=True)
    text = _TEMPLATE.read_text(encoding="utf-8")
    config.write_text(text.format(name=name, config=config.as_posix(), prompts=prompts.as_posix()), encoding="utf-8")
    prompts.write_text(_PROMPTS, encoding="utf-8")
    return [config, prompts]
