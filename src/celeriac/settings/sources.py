"""Read settings out of a mapping, a module or any object: names resolved, values validated.

A source is written in one style: new names, or the old ones (APP-09), or with a namespace
(APP-08). Where the result goes is up to ``configuration``.
"""

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from celeriac import imports
from celeriac.exceptions import ImproperlyConfigured, SettingNotReadWarning
from celeriac.settings.spelling import (
    NOT_SETTINGS,
    PREFIXES,
    new_name,
    old_name,
    suggestion,
)
from celeriac.settings.table import DEFAULTS, NAMES, entry
from celeriac.settings.validation import coerce

_warned: set[str] = set()


def read_source(source: object, *, namespace: str | None = None, name: str = "") -> dict[str, Any]:
    """Return the settings of ``source`` by new name, each checked and in its own type.

    ``name`` is what errors call the source. Raises ImproperlyConfigured for unknown names, for old
    and new names in one source, and for values that do not fit; nothing is returned then.
    """
    found = _attributes(source)
    chosen = _namespaced(found, namespace) if namespace else _chosen(found, source, name)
    if "timezone" not in chosen and "TIME_ZONE" in found:  # Django's own name for it
        chosen["timezone"] = found["TIME_ZONE"]
    values = {key: coerce(key, value, name) for key, value in chosen.items()}
    for key, value in values.items():
        _warn_if_not_read(key, value)
    return values


def old_names_in(source: object) -> dict[str, str]:
    """Return the spellings from before Celery 4 that a source uses, with the names of today."""
    names = source if isinstance(source, Mapping) else dir(source)
    return {old: new for old in names if old.isupper() and (new := new_name(old)) is not None}


def _attributes(source: object) -> dict[str, Any]:
    if isinstance(source, str):
        raise ImproperlyConfigured(
            f"no settings can be read from the text {source!r}: give a mapping, module or object"
        )
    if isinstance(source, Mapping):
        return {str(key): value for key, value in source.items()}
    names = [name for name in dir(source) if name in NAMES or name.isupper()]
    values = {name: getattr(source, name) for name in names}
    # "from django.utils import timezone" brings a tool of the module, not a setting of that name
    return {name: value for name, value in values.items() if not isinstance(value, ModuleType)}


def _namespaced(found: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Only ``<NAMESPACE>_<NAME>``, new names only; in lower case if the namespace is (APP-08)."""
    prefix = namespace.rstrip("_") + "_"
    upper = prefix.isupper()
    chosen = {}
    for spelling in found:
        key = spelling.removeprefix(prefix)
        if key == spelling:
            continue
        key = key.lower() if upper and key.isupper() else key
        if key in NAMES:
            chosen[key] = found[spelling]
        elif spelling not in NOT_SETTINGS:
            _warn_once(spelling, f"{spelling} is not a setting and is ignored")
    return chosen


def _chosen(found: Mapping[str, Any], source: object, name: str) -> dict[str, Any]:
    """Known names in either style, by new name. A mapping may hold nothing else."""
    strict = isinstance(source, Mapping)
    known: dict[str, str] = {}
    for spelling in found:
        new = new_name(spelling)
        if new is not None:
            known[spelling] = new
        elif (strict or spelling.startswith(PREFIXES)) and spelling not in NOT_SETTINGS:
            raise unknown(spelling, name)
    _refuse_mixture(known, name)
    # both spellings of one setting may stand side by side: then the new one counts
    return {new: found[new if new in known else spelling] for spelling, new in known.items()}


def unknown(spelling: str, source: str = "") -> ImproperlyConfigured:
    """The error for a name that no setting has."""
    where = f" in {source}" if source else ""
    return ImproperlyConfigured(f"unknown setting {spelling!r}{where}: {suggestion(spelling)}")


def _refuse_mixture(known: Mapping[str, str], name: str) -> None:
    old = [spelling for spelling, new in known.items() if spelling != new]
    new = [spelling for spelling, new in known.items() if spelling == new]
    if not old or not new:
        return
    if len(old) > len(new):
        renames = {one: old_name(one) for one in new if old_name(one) not in known}
        renames = {one: other for one, other in renames.items() if one != other}
    else:
        renames = {one: known[one] for one in old if known[one] not in known}
    if renames:
        lines = "".join(f"\n  {one} -> {other}" for one, other in sorted(renames.items()))
        raise ImproperlyConfigured(
            f"{name or 'one source'} mixes old and new setting names; use one style, rename:{lines}"
        )


def _warn_if_not_read(name: str, value: object) -> None:
    """Say once that a setting has no effect, unless its value asks for what happens anyway."""
    default = getattr(DEFAULTS, name)
    if type(value) is type(default) and value == default:
        return
    if not entry(name).setting.read:
        _warn_once(
            name, f"{name} is understood but nothing reads it yet in this version of Celeriac"
        )


def _warn_once(name: str, text: str) -> None:
    if name not in _warned:
        _warned.add(name)
        warnings.warn(text, SettingNotReadWarning, stacklevel=imports.level_of_caller())
