"""Imports point one way: the order of the layers holds for every module of the package."""

import ast
import re
from pathlib import Path

import rolewise

ROOT = Path(rolewise.__file__).parent
# Left imports right, never the other way; parts of one layer never import each other.
LAYERS = [
    {"cli", "doctor"},
    {"report"},
    {"experiments"},
    {"stages", "config"},
    {"population"},
    {"trainer", "interop"},
    {"objective"},
    {"pretrained"},
    {"augment", "kd", "networks", "quant", "data", "runs", "settings", "progress"},
    {"own_code", "_roles", "bits"},
    {"errors", "seeds", "_types", "_version", "_machine"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
# Within its layer, the settings are read by the stages.
ALLOWED = {("stages", "config"), ("cli", "doctor")}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "rolewise":
            parts |= {alias.name for alias in node.names if alias.name in RANK}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rolewise."):
            parts.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            parts |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("rolewise.")}
    return parts


def test_imports_point_one_way():
    files = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
    assert len(files) > 40
    faults = []
    for path in files:
        importer = part_of(path)
        assert importer in RANK, f"{path} belongs to no layer"
        for imported in imported_parts(path) - {importer}:
            assert imported in RANK, f"{path} imports rolewise.{imported}, which belongs to no layer"
            if RANK[imported] <= RANK[importer] and (importer, imported) not in ALLOWED:
                faults.append(f"{path.relative_to(ROOT)} imports rolewise.{imported}")
    assert not faults


def test_optional_packages_are_imported_by_one_file_each():
    def importers(package: str) -> set[str]:
        found = set()
        for path in ROOT.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module or ""]
                if any(name.split(".")[0] == package for name in names):
                    found.add(path.relative_to(ROOT).as_posix())
        return found

    # Ray: one file; the experiments' tasks reach it through that file.
    assert importers("ray") == {"population/ray_engine.py"}
    assert importers("matplotlib") == {"report/plots.py"}
    assert importers("timm") | importers("lightning") | importers("torchmetrics") == set()


def test_the_page_draws_these_layers():
    page = (Path(__file__).resolve().parents[1] / "docs" / "architecture.md").read_text("utf-8")
    (drawn,) = re.findall(r"(?:^    .*\n)+", page, re.MULTILINE)
    assert [set(re.findall(r"\w+", layer)) for layer in drawn.split(">")] == LAYERS


def test_no_module_bears_the_name_of_a_public_function():
    functions = {"search", "train", "quantize", "export", "load_data", "load_network"}
    modules = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not functions & modules


# Numba's disk cache notices changes of the called function's file alone, so all kernels are in one file.
LONG = {"augment/kernels.py"}


def test_files_are_short():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in ROOT.rglob("*.py")
    }
    assert {name for name, length in lengths.items() if length > 300} == LONG
