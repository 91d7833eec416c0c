"""Reads the settings from the environment and from the file that it names."""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from app.config.registries import RegistrySettings
from app.config.rules import RuleSettings
from app.config.settings import FILE_ONLY, PREFIX, Settings
from app.config.types import MachineFault, SettingFiles

_KUBERNETES: Final = ("DOCXY_SERVICE_", "DOCXY_PORT_")
"""Prefixes of the variables that Kubernetes sets for a Service called docxy, with `DOCXY_PORT`."""

CONFIG_VARIABLE: Final = "DOCXY_CONFIG"
CONFIG_MEANING: Final = (
    "A TOML file with the same settings, in lower case and without `DOCXY_`. "
    "The environment takes precedence."
)


class SettingsError(Exception):
    """The settings cannot be used.

    The message lists every fault on a line of its own, and how to correct it; `faults` are these
    lines. If `is_machine_fault` is True, all of them are faults of the machine and not of the
    settings.
    """

    def __init__(self, faults: Sequence[str], *, is_machine_fault: bool = False) -> None:
        super().__init__(_format_message(faults))
        self.faults, self.is_machine_fault = faults, is_machine_fault


def load(files: SettingFiles | None = None) -> Settings:
    """Return the settings from the environment and the files that it names.

    Raise SettingsError, with all faults, if they cannot be used. The contents of `files` that
    another process has read are not read again.
    """
    with (files or SettingFiles()).activate():
        return _load()


def _load() -> Settings:
    environment = os.environ  # noqa: TID251 - the one place that reads it
    faults = _find_unknown_variables(environment)
    values, file_faults = _read_file(environment.get(CONFIG_VARIABLE, ""))
    is_operator_fault = bool(faults or file_faults)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults += [_format_fault(fault["loc"], fault, environment) for fault in error.errors()]
        is_operator_fault |= not all(map(_is_machine_fault, error.errors()))
    else:
        if not faults and not file_faults:
            return settings
    raise SettingsError(faults + file_faults, is_machine_fault=not is_operator_fault)


def _is_machine_fault(fault: Any) -> bool:  # noqa: ANN401 - pydantic's ErrorDetails
    return isinstance(fault.get("ctx", {}).get("error"), MachineFault)


def _find_unknown_variables(variables: Mapping[str, str]) -> list[str]:
    fields = Settings.model_fields.keys() - FILE_ONLY
    known_names = {Settings.variable(field) for field in fields} | {CONFIG_VARIABLE}
    return [
        f"{name}: {_explain_unknown(name, known_names)}"
        for name in sorted(variables)
        if name.upper().startswith(PREFIX)
        and name.upper() not in known_names
        and name != "DOCXY_PORT"
        and not name.startswith(_KUBERNETES)
    ]


def _explain_unknown(name: str, known_names: set[str]) -> str:
    key = name.upper().removeprefix(PREFIX).lower()
    if key in FILE_ONLY:
        return f"set it in the file of {CONFIG_VARIABLE} instead, as {key}"
    return f"there is no such setting{_suggest(name, known_names)}"


def _read_file(path: str) -> tuple[dict[str, Any], list[str]]:
    if not path:
        return {}, []
    try:
        values = tomllib.loads(SettingFiles.current().read(Path(path)).decode("utf-8"))
    except OSError as error:
        return {}, [f"{CONFIG_VARIABLE}={path}: the file cannot be read ({error.strerror})"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"{path}: invalid TOML: {error}"]
    keys = {name for name in Settings.model_fields if Settings.variable(name).startswith(PREFIX)}
    faults = [
        f"{path}: {key}: there is no such setting{_suggest(key, keys)}"
        for key in values
        if key not in keys
    ]
    return {key: value for key, value in values.items() if key in keys}, faults


def _suggest(name: str, candidates: set[str]) -> str:
    if name == "registry" and "registries" in candidates:
        return "; did you mean [[registries]]?"
    matches = difflib.get_close_matches(
        name.upper(), [candidate.upper() for candidate in candidates], n=1
    )
    suggestions = [
        candidate for candidate in candidates if matches and candidate.upper() == matches[0]
    ]
    return f"; did you mean {suggestions[0]}?" if suggestions else ""


def _format_fault(location: tuple[int | str, ...], fault: Any, variables: Mapping[str, str]) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    reason = str(fault["msg"]).removeprefix("Value error, ")
    if not location:  # the fault concerns several settings, which its message names
        path = variables.get(CONFIG_VARIABLE, "")
        in_file = reason.partition(":")[0] in FILE_ONLY or reason.startswith("rule ")
        return f"{path}: {reason}" if in_file and path else reason
    reason = reason[:1].lower() + reason[1:]
    field = str(location[0]).lower()
    if field in FILE_ONLY:
        path = variables.get(CONFIG_VARIABLE, "")
        return (
            f"{path}: {_format_location(location)}: {_explain_table_fault(location, fault, reason)}"
        )
    names = Settings.variables(field if field in Settings.model_fields else _find_field(field))
    set_names = [
        variable_name
        for name in names
        for variable_name in variables
        if variable_name.upper() == name and variables[variable_name]
    ]
    location_text = set_names[0] if set_names else f"{variables.get(CONFIG_VARIABLE, '')}: {field}"
    return f"{location_text}: {reason}"


def _format_location(location: tuple[int | str, ...]) -> str:
    """Return a place in the file as text, counted from one: `registries 2: url`, `groups.team`."""
    if location[0] == "groups" and len(location) > 1:
        name = str(location[1])
        key = name if _BARE_KEY.fullmatch(name) else json.dumps(name)
        location = (f"groups.{key}", *(step for step in location[2:] if step != "[key]"))
    text = "".join(
        f" {part + 1}" if isinstance(part, int) else f": {part}" for part in location
    ).removeprefix(": ")
    return text.replace("rules ", "rule ", 1) if text.startswith("rules ") else text


_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML accepts without quotes."""

_SHAPE_ADVICE: Final = {
    "tuple_type": 'write a list, like ["one", "two"]{tables}',
    "dict_type": "write a table [{table}]",
    "model_type": "write a table [[{table}]]",
    "model_attributes_type": "write a table [[{table}]]",
}
"""The advice for a value of the wrong shape, by pydantic's name of the fault."""

_TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "registries": RegistrySettings,
    "rules": RuleSettings,
}


def _explain_table_fault(location: tuple[int | str, ...], fault: Any, reason: str) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    """Return the message for a fault in a table: advice on its shape or key, or else `reason`."""
    table = str(location[0])
    if fault["type"] in _SHAPE_ADVICE:
        tables = f"; a table of {table} is [[{table}]]" if len(location) == 1 else ""
        return _SHAPE_ADVICE[fault["type"]].format(table=table, tables=tables)
    if fault["type"] != "extra_forbidden":
        return reason
    keys = set(_TABLES[table].model_fields)
    return f"there is no such key{_suggest(str(location[-1]), keys)}"


def _find_field(name: str) -> str:
    """Return the field for one of its environment variables, by which pydantic calls it."""
    fields = Settings.model_fields
    return next(field for field in fields if name.upper() in Settings.variables(field))


def _format_message(faults: Sequence[str]) -> str:
    count = "one setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
    lines = "".join(f"\n  {fault}" for fault in faults)
    return f"Docxy cannot start: {count}.{lines}\ndocs/configuration.md describes every setting."


def read_variable(name: str) -> str:
    """Return an environment variable as it is, or "" if unset; for code that runs without Settings.

    Nothing is checked, and the file is not read.
    """
    return os.environ.get(name, "")  # noqa: TID251 - as above
