"""``dicetalk evaluate``."""

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

from dicetalk.checkpoints.find import TINY
from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.cli.checks import refuse_idle
from dicetalk.cli.model_folder import recommended
from dicetalk.drawn.evaluate.ablations import AblationRow, ablation_row, format_ablations, load_ablation
from dicetalk.drawn.evaluate.embedding import clustering, clustering_rows, embed_people, person_identified, person_rows
from dicetalk.drawn.evaluate.frontier import (
    format_frontier,
    frontier,
    frontier_picture,
    frontier_plan,
    frontier_settings,
)
from dicetalk.drawn.evaluate.generate import Maker
from dicetalk.drawn.evaluate.judge_training import JudgeTraining, judges_of
from dicetalk.drawn.evaluate.judges import Judges
from dicetalk.drawn.evaluate.looks import look_rows
from dicetalk.drawn.evaluate.measures import judge_rows, rows_of
from dicetalk.drawn.evaluate.pictures import write_pictures
from dicetalk.drawn.evaluate.plan import ablation_plan, full_plan, quick_plan, unseen_people
from dicetalk.drawn.evaluate.run import Evaluation, as_json, evaluate, people_gallery
from dicetalk.drawn.evaluate.scores import Gallery
from dicetalk.drawn.evaluate.transfer import transfer_rows
from dicetalk.drawn.voices import espeak
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import SettingError
from dicetalk.evaluate.table import Row, format_rows
from dicetalk.files import check_file_target, check_no_input, explained, make_folder, only_writer, replacing
from dicetalk.hooks import Hooks
from dicetalk.progress import Bars
from dicetalk.residency import DeviceResidency, choose_device, choose_dtype

JUDGES_FILE, TABLE_FILE, JSON_FILE = "judges.safetensors", "table.txt", "evaluation.json"
CLIPS, QUICK_CLIPS = 3, 1
CLUSTERED_PEOPLE, CLUSTERED_TAKES = 5, 3


def evaluate_model(options: argparse.Namespace) -> int:
    """Make clips of unseen people and sentences, measure them, and write what was found.

    Returns:
        Exit status: 0 if every measure reaches its bar, else 1.
    """
    clips = options.clips
    if clips is None:
        clips = QUICK_CLIPS if options.quick else CLIPS
    if options.frontier:
        refuse_idle(options, ["quick", "against"], "with --frontier", "leave that out")
    if clips < 1:
        raise SettingError(f"--clips {clips}: give 1 or more.")
    device = choose_device(options.device)
    residency = DeviceResidency(device)
    folder = options.model
    check_no_input(options.out, {"the model": None if folder == TINY else Path(folder)})
    for path in options.against:
        check_no_input(options.out / JUDGES_FILE, {f"--against {path}": path})
    model = load_model(folder, dtype=choose_dtype(options.dtype, device))
    if not model.has_emotions:
        raise SettingError(
            f"{folder} is a model without emotions; evaluate measures what the bundled model is to reach."
        )
    others = {str(path): load_ablation(path, model, folder) for path in options.against}
    embeds = model.embedder is not None
    if others and not embeds:
        raise SettingError(f"--against compares priors of videos, and {options.model} has no embedder to take them.")
    espeak()  # now, and not after minutes of other work
    make_folder(options.out)
    for name in (TABLE_FILE, JSON_FILE):
        check_file_target(options.out / name)

    settings, size = recommended(model)
    plan = quick_plan(clips, videos=bool(others)) if options.quick else full_plan(clips, videos=embeds)
    people = unseen_people()
    with Bars(options.quiet) as bars, only_writer(options.out):
        judges = judges_of(options.out / JUDGES_FILE, JudgeTraining(), size, bars.hooks)
        gallery = people_gallery(people, judges, size)
        if options.frontier:
            return _frontier(options, model, judges, gallery, residency, bars.hooks)
        made_by = partial(Maker, settings=settings, size=size, residency=residency, hooks=bars.hooks)
        measure = partial(evaluate, judges=judges, gallery=gallery, settings=settings, size=size, hooks=bars.hooks)
        found = measure(made_by(model), plan)
        rows = rows_of(found.generated, found.drawn, gallery)
        rows += look_rows(found.shots, bars.hooks) + judge_rows(judges, gallery, size)
        if embeds and not options.quick:
            _write(options, found, rows, [])  # what follows takes long and may fail
            embedded = embed_people(
                model, people[:CLUSTERED_PEOPLE], CLUSTERED_TAKES, residency=residency, hooks=bars.hooks
            )
            rows += clustering_rows(clustering(embedded)) + person_rows(person_identified(embedded))
            if model.expression_reader is not None:
                rows += transfer_rows(model, judges, settings, size, residency, bars.hooks)
        compared: list[AblationRow] = []
        if others:
            compared = [ablation_row(str(options.model), found)]
            part = ablation_plan(plan)
            compared += [ablation_row(name, measure(made_by(other), part)) for name, other in others.items()]
        table = _write(options, found, rows, compared)
        pictures = write_pictures(found, options.out)

    print(table)
    for path in (options.out / TABLE_FILE, options.out / JSON_FILE, *pictures):
        print(path)
    return 1 if any(row.passed is False for row in rows) else 0


def _frontier(
    options: argparse.Namespace,
    model: DiceModel,
    judges: Judges,
    gallery: Gallery,
    residency: DeviceResidency,
    hooks: Hooks,
) -> int:
    """Compare sampler settings over the same clips; exit status 0."""
    made_for, size = recommended(model)
    takes = frontier_plan(full_plan(1, videos=False))[-(options.clips or len(PRESET_NAMES) + 1) :]
    rows = frontier(
        lambda settings: Maker(model, settings, size, residency, hooks),
        model.unet,
        frontier_settings(made_for),
        takes,
        judges,
        gallery,
        hooks=hooks,
    )
    table = format_frontier(rows)
    values = {
        "model": str(options.model),
        "clips": [take.name for take in takes],
        "rows": [asdict(row) for row in rows],
    }
    folder = options.out
    for path, write in (
        (folder / "frontier.txt", lambda partial: partial.write_text(table + "\n", "utf-8")),
        (folder / "frontier.json", lambda partial: partial.write_text(json.dumps(values, indent=1) + "\n", "utf-8")),
        (folder / "frontier.png", lambda partial: frontier_picture(rows).save(partial, "PNG")),
    ):
        with replacing(path) as partial, explained(path):
            write(partial)
    print(table)
    return 0


def _write(options: argparse.Namespace, found: Evaluation, rows: list[Row], compared: list[AblationRow]) -> str:
    """Write the table and the JSON of what has been measured so far; returns the table.

    Raises:
        OutputError: they cannot be written.
    """
    table = format_rows(rows) + (f"\n\n{format_ablations(compared)}" if compared else "")
    values = {"model": str(options.model)} | as_json(found, rows) | {"ablations": [asdict(row) for row in compared]}
    for name, text in ((TABLE_FILE, table), (JSON_FILE, json.dumps(values, indent=1))):
        path = options.out / name
        with replacing(path) as partial, explained(path):
            partial.write_text(text + "\n", "utf-8")
    return table
