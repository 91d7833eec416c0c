"""The environment, without the settings that stand in the file only."""

from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

FILE_ONLY: Final = frozenset({"registries", "default", "rules", "groups"})
"""Settings that no environment variable could hold well."""


class Variables(EnvSettingsSource):
    """What pydantic-settings reads of it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return a field's value, its name, and whether it is yet to be decoded."""
        if field_name in FILE_ONLY:
            return None, field_name, False
        return super().get_field_value(field, field_name)
