"""What `dg scaffold defs ml_assets.<Component> NAME` writes: a commented example that loads, checks and may be edited."""

import re
from pathlib import Path
from string import Template

import click
import dagster as dg

EXAMPLES = Path(__file__).parent / "examples"
FEATURE_REPO = "feature_repo"


class ExampleScaffolder(dg.Scaffolder):
    """Writes the example of a component type, from the folder `examples/`, under the name of the new folder."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write `defs.yaml`, or add a document to the file that is given; and the Python files that belong to it.

        No file is overwritten. A folder that is not named like a component is refused.
        """
        if request.scaffold_format == "python":
            dg.scaffold_component(request, {})
            return
        kind = request.type_name.rpartition(".")[2]
        folder = request.target_path.parent if request.append else request.target_path
        names = {"name": _name(folder), "module": _module(folder, request.project_root)}
        text = _filled(f"{kind}.yaml", names)
        if request.append:
            with request.target_path.open("a", encoding="utf-8") as file:
                file.write(f"---\n{text}")
        else:
            (folder / "defs.yaml").write_text(text, encoding="utf-8")
        for path, example in _beside(kind, folder, request.project_root, names["name"]).items():
            if not path.exists():
                path.write_text(_filled(example, names), encoding="utf-8")


def _beside(kind: str, folder: Path, project: Path | None, name: str) -> dict[Path, str]:
    """Return the files that a component needs beside its declaration, each with its example."""
    if kind != "FeatureViews":
        return {}
    found = {folder / "compute.py": "compute.txt"}
    if project and (project / FEATURE_REPO).is_dir():
        found[project / FEATURE_REPO / f"{name}.py"] = "feast.txt"
    return found


def _name(folder: Path) -> str:
    """Return the component's name, from that of its folder; when it is none, the new folder is taken back."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", folder.name):
        if not any(folder.iterdir()):
            folder.rmdir()
        raise click.ClickException(f"{folder.name!r} is not a name; use lower-case letters, digits and underscores")
    return folder.name


def _module(folder: Path, project: Path | None) -> str:
    """Return the dotted name of the new folder, such as `ml_assets.defs.orders`."""
    root = (project or folder.parents[2]).resolve()
    inside = folder.resolve()
    parts = inside.relative_to(root).parts if inside.is_relative_to(root) else inside.parts[-3:]
    return ".".join(part for part in parts if part != "src")


def _filled(example: str, names: dict[str, str]) -> str:
    return Template((EXAMPLES / example).read_text(encoding="utf-8")).substitute(names)
