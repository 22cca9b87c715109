"""Names that suit the lake, SQL and Feast, from names as files have them."""

from __future__ import annotations

import difflib
import keyword
import re
import sys
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from importlib.machinery import PathFinder

from ml_assets.scaffold.errors import ScaffoldError

# What Polars' SQL reads as a word of its own at the place of a column (tried, one by one), and what standard SQL reserves.
_SQL = """
all and any array as asc between by case cast create cross current_date current_time current_timestamp current_user
delete desc distinct drop else end except exclude exists explain analyze false fetch for from full group having in inner
insert intersect interval into is join lateral left like limit localtime localtimestamp minus natural not null offset on
or order outer over partition right select session_user set some sort cluster distribute struct table then to top trim
true union unique update user using values view when where with
"""
_PLATFORM = """
event_timestamp label label_timestamp split landed_at created_timestamp prediction score scores cluster partition event_at
known_at
"""
SQL_WORDS, PLATFORM_NAMES = frozenset(_SQL.split()), frozenset(_PLATFORM.split())
RAW_NAMES = ("landed_at", "_partition", "_delivery")
"""Columns that reading adds to the raw table, before anything can be renamed."""
RESERVED_FOLDERS = ("raw", "clean", "features", "feature_store", "defs")
LONGEST_NAME = 50


def safe_names(names: Sequence[str]) -> dict[str, str]:
    """Return a lower_snake name for each column name of a file.

    Words of SQL and names that the platform uses get an underscore at the end. Raises `ScaffoldError` for names that
    become the same, and for those that a raw table has itself.
    """
    if taken := [name for name in names if name in RAW_NAMES]:
        raise ScaffoldError(f"columns {taken} have names that every raw table uses itself; rename them in the file")
    safe = {name: safe_name(name, number) for number, name in enumerate(names, start=1)}
    for name, short in safe.items():
        same = [other for other in names if safe[other] == short]
        if len(same) > 1:
            raise ScaffoldError(f"columns {same} are all {short!r} as {name!r} is written here; rename all but one")
    return safe


def safe_name(name: str, number: int = 1) -> str:
    """Return the lower_snake form of one name; `number`, its place in the file, names what has no Latin letter."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain)
    snake = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    if not snake:
        return f"column_{number}"
    if snake[0].isdigit():
        return f"column_{snake}"
    return f"{snake}_" if snake in SQL_WORDS or snake in PLATFORM_NAMES else snake


def free_name(wanted: str, taken: Collection[str]) -> str:
    """Return the name, with underscores at its end until nobody has it."""
    while wanted in taken:
        wanted += "_"
    return wanted


def column_named(wanted: str, safe: dict[str, str], *, option: str, where: str) -> str:
    """Return the file's name of the column that a person named by either name, in whatever case.

    Raises `ScaffoldError`, which suggests the closest, when there is none.
    """
    if wanted in safe:
        return wanted
    for name, short in safe.items():
        if wanted.lower() in (name.lower(), short):
            return name
    close = difflib.get_close_matches(wanted.lower(), [name.lower() for name in safe], n=1, cutoff=0.4)
    meant = next((name for name in safe if close and name.lower() == close[0]), "")
    hint = f"; did you mean {meant!r}?" if meant else ""
    raise ScaffoldError(f"{option} {wanted!r} is no column of {where}{hint} It has: {listed(safe)}")


def listed(values: Iterable[object], most: int = 12) -> str:
    """Return the first values in words, and how many more there are."""
    given = [str(value) for value in values]
    rest = f" and {len(given) - most} more" if len(given) > most else ""
    return ", ".join(given[:most]) + rest


def double_quoted(text: str) -> str:
    """Return a text in double quotes, as both Python and YAML read it; what cannot be seen is escaped."""
    return f'"{"".join(map(_letter, text))}"'


def _letter(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def check_problem_name(name: str, *, taken: Collection[str] = ()) -> None:
    """Raise `ScaffoldError` for what cannot name a problem: no name, a word of Python, a module, or one that is taken."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        meant = safe_name(name).strip("_")
        raise ScaffoldError(
            f"name {name!r} is no name: use lower-case letters, digits and underscores, such as {meant}"
        )
    if len(name) > LONGEST_NAME:
        raise ScaffoldError(f"name {name!r} has {len(name)} letters: use at most {LONGEST_NAME}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ScaffoldError(f"name {name!r} is a word of Python: choose another, such as {name}_problem")
    if name in RESERVED_FOLDERS or name in taken:
        raise ScaffoldError(f"name {name!r} is taken here: choose another, such as {name}_2")
    if name in sys.stdlib_module_names or _installed(name):
        raise ScaffoldError(f"name {name!r} is that of a Python module, which Feast would then not find: add a word")


def _installed(name: str) -> bool:
    """Tell whether a package or module of that name is installed; folders of the working directory do not count."""
    found = PathFinder.find_spec(name, [path for path in sys.path if path.endswith("-packages")])
    return found is not None and found.origin is not None
