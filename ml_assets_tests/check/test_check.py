"""Every mistake in a declaration is told with file, line, field and fix; a clean declaration has none.

A broken declaration is committed beside the clean one that it replaces: `problem_no_name.yaml` stands for `problem.yaml`.
Where it is wrong a comment says so, "# fault: " and what must be told of that line.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ml_assets.check import Fault, check, faults

HERE = Path(__file__).parent / "declarations"
BROKEN = sorted((HERE / "broken").glob("*.yaml"))
MARK = re.compile(r"# fault: (?P<words>.*)$")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository of three clean declarations, without Feast."""
    for path in (HERE / "clean").glob("*.yaml"):
        folder = tmp_path / "ml_assets" / "defs" / path.stem
        folder.mkdir(parents=True)
        shutil.copy(path, folder / "defs.yaml")
    return tmp_path


def place(project: Path, kind: str) -> Path:
    return project / "ml_assets" / "defs" / kind / "defs.yaml"


def break_it(project: Path, name: str) -> Path:
    path = place(project, name.partition("_")[0])
    shutil.copy(HERE / "broken" / f"{name}.yaml", path)
    return path


def test_the_clean_declarations_have_no_fault(project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    checked = check(project)
    assert checked.faults == []
    assert checked.text() == "No fault: 2 sources, 1 feature view, 1 problem."
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def marks(path: Path) -> dict[int, str]:
    lines = enumerate(path.read_text().splitlines(), 1)
    return {number: found["words"] for number, line in lines if (found := MARK.search(line))}


@pytest.mark.parametrize("broken", [path.stem for path in BROKEN if marks(path)])
def test_a_fault_is_told_with_its_line_and_its_fix(project: Path, broken: str) -> None:
    path = break_it(project, broken)
    wanted = marks(path)
    found = [fault for fault in faults(project) if fault.file == path.relative_to(project).as_posix()]
    assert {fault.line for fault in found} == set(wanted), "\n".join(map(str, found))
    for fault in found:
        assert re.search(wanted[fault.line], str(fault)), str(fault)


def test_a_column_that_is_not_there_is_pointed_at_in_the_query(project: Path) -> None:
    path = break_it(project, "problem_column_that_is_not_there")
    assert faults(project) == [
        Fault(
            file="ml_assets/defs/problem/defs.yaml",
            line=1 + path.read_text().splitlines().index("      SELECT order_id, customer, country, amuont,"),
            column=43,
            field="attributes.observations.query",
            problem="no column 'amuont' in table clean_orders",
            fix="did you mean 'amount'?",
            value="amuont",
        )
    ]


def test_a_table_that_is_not_there_is_pointed_at_in_the_query(project: Path) -> None:
    path = break_it(project, "problem_table_that_is_not_there")
    (found,) = faults(project)
    assert path.read_text().splitlines()[found.line - 1][found.column - 1 :] == "clean_order"
    assert (found.problem, found.fix) == (
        "no source declares the table 'clean_order'",
        "did you mean 'clean_orders'?",
    )


def test_all_faults_of_all_files_are_told_at_once(project: Path) -> None:
    for broken in ("sources_limits", "views_entity_and_zone", "problem_owner_cron_days"):
        break_it(project, broken)
    text = check(project).text()
    assert len(re.findall(r"^ml_assets/defs/(sources|views|problem)/defs.yaml:\d+:\d+  attributes\.", text, re.M)) == 7
    assert text.endswith("7 faults in 3 files; checked: 2 sources, 1 feature view, 1 problem.")


def test_what_is_wrong_in_one_place_does_not_hide_another(project: Path) -> None:
    path = place(project, "problem")
    text = path.read_text().replace("key: [order_id]", "key: [order_nr]").replace("  retrain:", "  retrian:")
    path.write_text(text)
    assert [fault.problem for fault in faults(project)] == [
        "no column 'order_nr' in the observations",
        "unknown key 'retrian'",
    ]


def test_of_a_name_only_what_it_needs_is_checked(project: Path) -> None:
    break_it(project, "sources_shared_folder")
    other = place(project, "other")
    other.parent.mkdir()
    other.write_text(
        place(project, "problem").read_text().replace("name: returns", "name: other").replace("roc_auc", "rmse")
    )
    assert {fault.file.split("/")[2] for fault in faults(project)} == {"sources", "other"}
    assert {fault.file.split("/")[2] for fault in check(project, "returns").faults} == {"sources"}
    assert {fault.file.split("/")[2] for fault in check(project, "other").faults} == {"sources", "other"}
    with pytest.raises(ValueError, match="nothing declared is called 'retorns'; did you mean 'returns'"):
        check(project, "retorns")


def test_a_problem_may_not_be_called_like_a_layer(project: Path) -> None:
    path = place(project, "problem")
    path.write_text(path.read_text().replace("name: returns", "name: clean"))
    assert [fault.problem for fault in faults(project)] == ["'clean' is the name of a layer of tables"]


def test_the_first_table_of_a_problem_by_days_has_days(project: Path) -> None:
    path = place(project, "problem")
    text = path.read_text().replace("FROM clean_orders", "FROM raw_customers")
    path.write_text(text)
    assert "the first table, 'raw_customers', has no days, but the problem has" in {
        one.problem for one in faults(project)
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"- a\n", "this is no mapping"),
        (b"type: ml_assets.Source\nattributes: {name: \xff}\n", "byte 0xff is no UTF-8"),
        (b"type: ml_assets.Source\nattributes:\n\tname: a\n", r"no YAML: .*\\t"),
        (b"attributes: {}\n", "key 'type' is missing"),
        (b"type: ml_assets.problem.Task\n", "'ml_assets.problem.Task' is no component type"),
        (b"type: ml_assets.Source\nattributes: {name: '{{ nothing.here }}', pattern: a/b, columns: []}\n", "template"),
    ],
)
def test_a_file_that_declares_nothing_is_told(project: Path, content: bytes, problem: str) -> None:
    path = place(project, "more")
    path.parent.mkdir()
    path.write_bytes(content)
    found = [fault for fault in faults(project) if "/more/" in fault.file]
    assert len(found) == 1
    assert re.match(problem, found[0].problem), found[0]
    assert found[0].fix


def test_a_template_is_filled_in(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place(project, "problem")
    path.write_text(path.read_text().replace("[team:shop]", "['{{ env.OWNER }}']"))
    monkeypatch.setenv("OWNER", "nobody")
    assert [fault.problem for fault in faults(project)] == ["owner 'nobody' is neither an e-mail address nor a team"]
    monkeypatch.setenv("OWNER", "team:shop")
    assert faults(project) == []


def test_documents_before_broken_yaml_are_checked(project: Path) -> None:
    path = place(project, "problem")
    path.write_text(path.read_text().replace("roc_auc", "rmse") + "---\na: b: c\n")
    assert [fault.problem.partition(";")[0] for fault in faults(project)] == [
        "metric 'rmse' does not fit task 'classification'",
        "no YAML: mapping values are not allowed here",
    ]


def test_components_of_others_are_held_to_their_schema(project: Path) -> None:
    path = place(project, "more")
    path.parent.mkdir()
    path.write_text("type: dagster.DefinitionsComponent\nattributes: {paht: x.py}\n")
    assert [fault.problem for fault in faults(project)] == ["unknown key 'paht'"]
