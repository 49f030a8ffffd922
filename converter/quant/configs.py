# SPDX-License-Identifier: Apache-2.0
"""`--config`: a TOML file with the names of the flags, or a configuration of MindSpore's converter.

Either becomes values for the command's own flags, so a file can say what the command line can, is checked by the same rules, and
what the command line says wins. Of MindSpore's files every key is mapped to a flag, ignored with a warning that names it, or refused
with the reason: see `KEYS`, from which the table in docs/configuration.md is made.
"""

from __future__ import annotations

import argparse
import configparser
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConvertError
from .mindspore_keys import FLAT, KEYS, MIXED, MIXED_TARGET, Key

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["markdown_table", "parse_arguments", "read_mindspore", "read_toml"]

_UNSET = argparse.SUPPRESS


def parse_arguments(
    parser: argparse.ArgumentParser, argv: Sequence[str], *, needed: Iterable[str] = (), warn: Callable[[str], None] = lambda text: None
) -> argparse.Namespace:
    """Arguments from the command line, then from its ``--config`` file, then the defaults.

    Args:
        parser: its positional arguments must be optional; what must be given stands in ``needed``.
        argv: the command line.
        needed: names (dest) that the command line or the file must give.
        warn: called with each remark on the file.

    Raises:
        ConvertError: the file cannot be read, or a key or value is not known.
    """
    actions = [action for action in parser._actions if action.dest not in ("help", _UNSET)]
    defaults = {action.dest: action.default for action in actions}
    for action in actions:
        action.default = _UNSET
    try:
        given = vars(parser.parse_args(argv))
    finally:
        for action in actions:
            action.default = defaults[action.dest]
    values: dict[str, Any] = {}
    if given.get("config"):
        path = Path(given["config"])
        found, remarks = (read_toml(path), []) if path.suffix.lower() == ".toml" else read_mindspore(path, _inputs_of(given.get("model")))
        values = {action.dest: value for action, value in _checked(actions, found, str(path)).items()}
        for remark in remarks:
            warn(f"{path}: {remark}")
    merged = argparse.Namespace(**{**defaults, **values, **given})
    missing = [name for name in needed if getattr(merged, name) is None]
    if missing:
        flags = ["/".join(a.option_strings) or a.dest for name in missing for a in actions if a.dest == name]
        parser.error(f"the following arguments are required: {', '.join(flags)}")
    return merged


def _inputs_of(model: Any) -> Callable[[], list[str]]:
    """Names of the inputs of an ONNX file, read only when somebody asks."""

    def names() -> list[str]:
        import onnx

        if not isinstance(model, str):
            return []
        try:
            graph = onnx.load(model, load_external_data=False).graph
        except Exception as error:
            raise ConvertError(f"cannot be read: {error}", rule="onnx.file", where=model) from error
        constants = {i.name for i in graph.initializer}
        return [i.name for i in graph.input if i.name not in constants]

    return names


# ---- values for flags ------------------------------------------------------------------------------------------------------------------


def _flag_names(actions: Iterable[argparse.Action]) -> dict[str, argparse.Action]:
    """Keys of a file: the long flags without their dashes, and positional arguments."""
    names = {}
    for action in actions:
        long = [option[2:] for option in action.option_strings if option.startswith("--")]
        for name in long or [action.dest]:
            names[name] = action
    return {name: action for name, action in names.items() if name not in ("config", "debug")}


def _checked(actions: Iterable[argparse.Action], found: Mapping[str, Any], where: str) -> dict[argparse.Action, Any]:
    """Values by action, converted and checked as the command line's."""
    known = _flag_names(actions)
    result = {}
    for key, value in found.items():
        name = key.replace("_", "-")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"Did you mean {', '.join(close)}?" if close else f"Known: {', '.join(sorted(known))}"
            raise ConvertError(f"unknown key {key!r}", rule="config.key", where=where, hint=hint)
        result[known[name]] = _value_of(known[name], value, f"{where} {key}")
    return result


def _value_of(action: argparse.Action, value: Any, where: str) -> Any:
    if isinstance(action, argparse._StoreConstAction):  # a flag without a value
        if not isinstance(value, bool):
            raise _bad(f"{value!r} is not true or false", where)
        return action.const if value else action.default
    if isinstance(action, argparse._AppendAction):
        return [_single(action, part, where) for part in _parts(action, value, where)]
    if action.nargs in ("+", "*"):
        return [_single(action, part, where) for part in _parts(action, value, where)]
    return _single(action, value, where)


def _parts(action: argparse.Action, value: Any, where: str) -> list[Any]:
    """Several values: a list, one value, or a table NAME = value as the flag writes it."""
    if isinstance(value, Mapping):
        joint = ":" if action.dest == "input_shape" else "="
        return [f"{name}{joint}{_text(v, where)}" for name, v in value.items()]
    return list(value) if isinstance(value, list) else [value]


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, Mapping):
        raise _bad(f"{value!r} has no meaning here", where)
    if isinstance(value, list):
        return ",".join(_text(part, where) for part in value)
    return str(value)


def _single(action: argparse.Action, value: Any, where: str) -> Any:
    text = _text(value, where)
    try:
        result = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
        expected = getattr(action.type, "__name__", "")
        reason = str(error) if isinstance(error, argparse.ArgumentTypeError) else f"{text!r} is not of type {expected}"
        raise _bad(reason, where) from error
    if action.choices is not None and result not in action.choices:
        raise _bad(f"unknown value {text!r}", where, f"Known: {', '.join(map(str, action.choices))}")
    return result


def _bad(message: str, where: str, hint: str = "") -> ConvertError:
    return ConvertError(message, rule="config.value", where=where, hint=hint)


# ---- files -----------------------------------------------------------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConvertError(error.strerror or str(error), rule="config.file", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConvertError("is not text in UTF-8", rule="config.file", where=str(path)) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Keys and values of a TOML file.

    Raises:
        ConvertError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConvertError(f"not TOML: {error}", rule="config.file", where=str(path)) from error


def _sections(path: Path) -> dict[str, dict[str, str]]:
    """Sections of an INI file; the flat form of r1.3 is one section with the name `FLAT`."""
    text = _read_text(path)
    lines = [line.strip() for line in text.splitlines()]
    if not any(line.startswith("[") for line in lines):
        text = f"[{FLAT}]\n{text}"
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"), default_section="")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        what = " ".join(str(error).replace("'<string>'", "the file").split())
        hint = "Write key=value lines, or name a file with the flags' names .toml"
        raise ConvertError(f"not a configuration of MindSpore: {what}", rule="config.file", where=str(path), hint=hint) from error
    return {name: dict(parser[name]) for name in parser.sections()}


def _key(section: str, name: str, where: str) -> Key:
    """The row of a key; ConvertError that says what was meant otherwise."""
    if (section, name) in KEYS:
        return KEYS[section, name]
    known = [s for s, _ in KEYS]
    if section not in known:
        close = difflib.get_close_matches(section, known, n=1)
        hint = f"Did you mean [{close[0]}]?" if close else f"Known: {', '.join(dict.fromkeys(s for s in known if s != FLAT))}"
        raise ConvertError(f"unknown section [{section}]", rule="config.section", where=where, hint=hint)
    elsewhere = [s for s, n in KEYS if n == name]
    names = [n for s, n in KEYS if s == section]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if elsewhere:
        form = "in the flat form of r1.3" if elsewhere == [FLAT] else f"in [{'], ['.join(s for s in elsewhere if s != FLAT)}]"
        hint = f"It belongs {form}"
    else:
        hint = f"Did you mean {', '.join(close)}?" if close else f"Known: {', '.join(names)}"
    raise ConvertError(f"unknown key {name!r}", rule="config.key", where=where if section == FLAT else f"{where} [{section}]", hint=hint)


def read_mindspore(path: Path, inputs: Callable[[], list[str]] = list) -> tuple[dict[str, Any], list[str]]:
    """Flags and warnings of a configuration for MindSpore's converter, r1.3's flat form or the sections of 2.x.

    Args:
        path: the file.
        inputs: gives the names of the network's inputs, for the r1.3 list of folders that goes by their order.

    Returns:
        Values by flag name, as a TOML file would hold them, and what was ignored and why.

    Raises:
        ConvertError: the file cannot be read, or it holds a key or value that is unknown or refused.
    """
    flags: dict[str, Any] = {}
    warnings: list[str] = []
    sections = _sections(path)
    for section, entries in sections.items():
        for name, text in entries.items():
            key = _key(section, name, str(path))
            label = name if section == FLAT else f"[{section}] {name}"
            value = (text or "").strip()
            try:
                found = key.apply(value)
            except ValueError as error:
                raise ConvertError(f"{name}={value}: {error}", rule="config.value", where=str(path)) from error
            if isinstance(found, str):
                warnings.append(f"{label}={value} is ignored: {found}")
            else:
                flags.update(found)
    target = flags.pop(MIXED_TARGET, None)
    if target is not None and flags.get("bits") == MIXED:
        flags.update(target)
    elif target is not None:
        warnings.append("the target of mixed widths is ignored: one width is asked for")
    _join_sizes(flags, str(path))
    _name_folders(flags, inputs, str(path))
    pictures = sections.get("data_preprocess_param", {}).get("input_type", "").strip().upper() == "IMAGE"
    if "calibration" in flags and not pictures:
        warnings.append("MindSpore takes raw data as NHWC, edge8 in the layout of the ONNX model's own inputs; save .bin files accordingly")
    return flags, warnings


def _join_sizes(flags: dict[str, Any], where: str) -> None:
    """Width and height are two keys there and one flag here."""
    for flag in ("resize", "crop"):
        height, width = flags.pop(f"{flag}-height", None), flags.pop(f"{flag}-width", None)
        if (height is None) != (width is None):
            missing = "height" if height is None else "width"
            prefix = "center_crop" if flag == "crop" else "resize"
            raise ConvertError(f"{prefix}_{missing} is missing", rule="config.value", where=where, hint="Give width and height")
        if height is not None:
            flags[flag] = [height, width]


def _name_folders(flags: dict[str, Any], inputs: Callable[[], list[str]], where: str) -> None:
    """r1.3 lists one folder per input, in their order."""
    folders = flags.pop("folders", None)
    if folders is None:
        return
    if len(folders) == 1:
        flags["calibration"] = folders
        return
    names = inputs()
    if len(names) != len(folders):
        raise ConvertError(f"image_path lists {len(folders)} folders, the model has {len(names)} inputs", rule="config.value", where=where)
    flags["calibration"] = [f"{name}={folder}" for name, folder in zip(names, folders, strict=True)]


def markdown_table() -> str:
    """The table of docs/configuration.md."""
    lines = ["| section | key | edge8 |", "| --- | --- | --- |"]
    for (section, name), key in KEYS.items():
        lines.append(f"| {'(r1.3, flat)' if section == FLAT else f'`{section}`'} | `{name}` | {key.text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table())
