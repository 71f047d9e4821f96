"""Runs of translated commands: named, kept apart, and read by the commands that follow."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from llmbuilder.migration.commands import ScriptFacts, TranslatedCommand, find_calls, translate_all, translate_script
from llmbuilder.migration.project_places import ProjectPlaces as RealPlaces
from llmbuilder.migration.understanding import understand
from tests.migration.commands.project_places import SAMPLE, TRAIN, ProjectPlaces
from tests.migration.commands.test_translating import option, sets

NO_OUT_DIR = {name: value for name, value in TRAIN.items() if name not in ("out_dir", "wandb_run_name")}
PLAIN_SAMPLE = {name: value for name, value in SAMPLE.items() if name != "out_dir"}


def all_of(text: str, places: ProjectPlaces | None = None, file: str = "run.sh") -> list[TranslatedCommand]:
    return translate_all(find_calls(PurePosixPath(file), text), places or ProjectPlaces())


def outputs(text: str, places: ProjectPlaces | None = None) -> list[str | None]:
    return [option(found.command, "--output") for found in all_of(text, places)]


def without_out_dir(**configs: dict[str, object]) -> ProjectPlaces:
    return ProjectPlaces(
        scripts={
            "train.py": ScriptFacts("train", defaults=NO_OUT_DIR),
            "sample.py": ScriptFacts("sample", defaults=PLAIN_SAMPLE),
        },
        configs={f"config/{name}.py": values for name, values in configs.items()},
    )


@pytest.mark.parametrize("name", ["run_name", "exp_name", "exp", "experiment", "name", "tag", "save_name", "ckpt_name"])
def test_the_name_of_an_experiment_names_its_run(name: str) -> None:
    first, second = all_of(f"python train.py --{name}=small\npython train.py --{name}=large", without_out_dir())
    assert [option(found.command, "--output") for found in (first, second)] == ["run/small", "run/large"]
    assert "--overwrite" not in first.command + second.command
    assert first.left == []


def test_an_out_dir_comes_before_a_name() -> None:
    assert outputs("python train.py --out_dir=out-a --run_name=x") == ["run/out-a"]
    assert outputs("python train.py --wandb_run_name=x") == ["run/out"]


def test_trainings_without_any_name_are_called_after_their_configuration_and_kept_apart() -> None:
    text = "\n".join(
        f"python train.py {rest}" for rest in ("config/a.py", "config/a.py --dropout=0.1", "config/a.py", "")
    )
    found = all_of(text, without_out_dir(a={"n_layer": 2}))
    assert [option(one.command, "--output") for one in found] == ["run/a", "run/a-2", "run/a", "run/train-defaults"]
    assert ["--overwrite" in one.command for one in found] == [False, False, True, False]
    assert any("gets run/a-2" in note for note in found[1].notes)


def test_a_script_and_the_report_call_a_run_the_same() -> None:
    places = without_out_dir(a={})
    text = "python train.py config/a.py\npython train.py config/a.py --dropout=0.1\n"
    assert outputs(text, places) == ["run/a", "run/a-2"]
    second = "python train.py config/a.py --dropout=0.1\n"
    assert "run/a-2" in translate_script(second, find_calls(PurePosixPath("b.sh"), second), places)


def test_turns_of_a_loop_have_a_run_each() -> None:
    assert outputs("for s in 1 2; do python train.py --seed=$s; done", without_out_dir()) == ["run/train-defaults-$s"]
    assert outputs("for n in a b; do python train.py --run_name=$n; done", without_out_dir()) == ["run/$n"]


def test_sampling_reads_what_was_trained_before_it() -> None:
    text = "python train.py --run_name=x\npython sample.py\npython sample.py --run_name=y"
    commands = [found.command for found in all_of(text, without_out_dir())]
    assert [option(command, "--model") for command in commands[1:]] == ["run/x", "run/y"]


def test_a_checkpoint_of_a_trained_folder_is_its_run() -> None:
    text = "\n".join([
        "python train.py --out_dir=models/gpt-38M", "python sample.py --checkpoint models/gpt-38M/ckpt.pt",
        "python sample.py --checkpoint models/gpt-1B/ckpt.pt", "python sample.py --checkpoint out-chars/ckpt.pt",
        'python sample.py --checkpoint "$1/ckpt.pt"', 'python sample.py --checkpoint "$1"',
    ])  # fmt: skip
    found = all_of(text)
    models = [option(one.command, "--model") for one in found[1:5]]
    assert models == ["run/gpt-38M", "run/gpt-1B", "model/out-chars.pt", "run/$1"]
    assert found[5].command == "" and "only known to the shell" in found[5].notes[0]


def test_a_training_that_goes_on_elsewhere_starts_from_the_weights_of_the_other_run() -> None:
    elsewhere, same, by_file = all_of(
        "python train.py --init_from=resume --resume_dir=out-a --out_dir=out-b\n"
        "python train.py --init_from=resume --resume_dir=out-a --out_dir=out-a\n"
        "python train.py --resume=out-a/ckpt.pt --out_dir=out-c"
    )
    assert option(elsewhere.command, "--output") == "run/out-b" and " train model " in elsewhere.command
    assert "training.init_from=run/out-a" in sets(elsewhere.command)
    assert same.command == "llmbuilder train resume run/out-a"
    assert "training.init_from=run/out-a" in sets(by_file.command)


LAYERED = {
    "base": {"out_dir": "out-base", "dataset": "chars", "dropout": 0.2, "n_layer": 4, "max_iters": 9},
    "a": {"out_dir": "out-a", "dataset": "tale", "dropout": 0.0, "n_layer": 4, "rotary": True},
    "b": {"out_dir": "out-b", "dataset": "tale", "dropout": 0.0, "n_layer": 4, "rotary": True},
    "c": {"out_dir": "out-c", "dropout": 0.1},
}


def layered() -> ProjectPlaces:
    return ProjectPlaces(configs={f"config/{name}.py": values for name, values in LAYERED.items()})


def test_a_configuration_is_read_over_the_one_before_it() -> None:
    (found,) = all_of("python train.py --dropout=0.3 config/base.py config/a.py --max_iters=5", layered())
    assert option(found.command, "--config") == "configs/base.json"
    assert option(found.command, "--output") == "run/out-a" and option(found.command, "--data") == "data/tale"
    assert {"model.dropout=0.0", "training.max_steps=5"} <= set(sets(found.command))
    assert not any(setting.startswith("model.num_layers") for setting in sets(found.command)), "it is the same in both"
    assert found.left == ["config/a.py: rotary=True"]
    (last,) = all_of("python train.py config/base.py config/a.py config/c.py", layered())
    assert "model.dropout=0.1" in sets(last.command) and option(last.command, "--output") == "run/out-c"


def test_configurations_of_a_loop_are_read_over_the_first_one() -> None:
    (found,) = all_of("for c in a b; do python train.py config/base.py config/$c.py; done", layered())
    assert option(found.command, "--output") == "run/out-$c" and "model.dropout=0.0" in sets(found.command)
    (found,) = all_of("for c in config/a.py config/b.py; do python train.py config/base.py $c; done", layered())
    assert "differ in out_dir" in found.notes[0], "no out_dir has the loop's variable in it"
    (differing,) = all_of("for c in a c; do python train.py config/base.py config/$c.py; done", layered())
    assert differing.command == "" and "write a line for each" in differing.notes[0]


@pytest.mark.parametrize("arguments", ["nothing_of_this_name", "config/base.py config/absent.py", "config/base.py $C"])
def test_a_configuration_that_is_not_there_is_no_other_training(arguments: str) -> None:
    (found,) = all_of(f"python train.py {arguments}", layered())
    assert found.command == "" and "no configuration" in found.notes[0]


def test_a_configuration_may_be_named_without_folder_and_suffix() -> None:
    (found,) = all_of("python train.py base", layered())
    assert option(found.command, "--config") == "configs/base.json"


def test_only_the_one_program_of_a_name_is_meant_by_it() -> None:
    scripts = {"src/train.py": ScriptFacts("train", defaults=TRAIN)}
    (found,) = all_of("python train.py --out_dir=out-a", ProjectPlaces(scripts=scripts))
    assert option(found.command, "--output") == "run/out-a" and "src/train.py" in found.notes[0]
    scripts["other/train.py"] = scripts["src/train.py"]
    (found,) = all_of("python train.py", ProjectPlaces(scripts=scripts))
    assert found.command == "" and found.notes == ["train.py is not in the project"]


def test_arguments_of_a_script_stay_the_variables_that_hold_them() -> None:
    text = """NAME="$1" STEPS=${2:?steps}
shift 2
go() {
  python train.py --out_dir="out/$NAME" --max_iters=$STEPS "$@"
}
go --seed=1
if [ -n "$SEED" ]; then NAME+="-s$SEED"; fi
python sample.py --out_dir="out/$NAME" --tokenizer="$NAME/tokenizer"
"""
    train, sample = all_of(text)
    assert '--output "run/$NAME"' in train.command and '"training.max_steps=$STEPS"' in train.command
    assert '--model "run/$NAME"' in sample.command and "--tokenizer" not in sample.command
    assert any("a run holds its own" in note for note in sample.notes)


SAMPLER = """
import os
from settings import Sampling
{table}
def main():
    model = load({name}["out_dir"])
"""


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        ('CONFIG = {"out_dir": os.path.join("models", "tales"), "prompt": "Once", "num_samples": 1,\n'
         '          "max_new_tokens": 128, "temperature": 0.6, "top_k": 40}', "class Sampling: pass"),
        ("", "from dataclasses import dataclass\n@dataclass\nclass Sampling:\n    out_dir: str = 'models/tales'\n"
         "    prompt: str = 'Once'\n    num_samples: int = 1\n    max_new_tokens: int = 128\n"
         "    temperature: float = 0.6\n    top_k: int = 40\n"),
    ],
)  # fmt: skip
def test_what_a_program_for_sampling_does_by_itself_is_its_own(tmp_path: Path, table: str, settings: str) -> None:
    (tmp_path / "sample.py").write_text(SAMPLER.format(table=table, name="CONFIG"))
    (tmp_path / "settings.py").write_text(settings)
    (tmp_path / "run.sh").write_text("python sample.py\n")
    project = understand(tmp_path)
    (found,) = translate_all(project.calls, RealPlaces(project))
    assert found.command == (
        "llmbuilder generate text --model run/tales --prompt Once --num-samples 1 --max-new-tokens 128 "
        "--temperature 0.6 --top-k 40"
    )


PROGRAM = """
import torch
n_layer, n_head, n_embd, batch_size, learning_rate, max_iters = 2, 2, 32, 4, 1e-3, 10
n_layer = 2
n_head = 2
n_embd = 32
batch_size = 4
learning_rate = 1e-3
max_iters = 10
loss.backward()
"""


def test_runs_without_a_name_are_those_of_the_table_of_experiments(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train_small.py").write_text(PROGRAM)
    os.symlink("src/train_small.py", tmp_path / "small.py")
    (tmp_path / "run.sh").write_text("python src/train_small.py\npython src/train_small.py --run_name b\n")
    (tmp_path / "README.md").write_text("```\npython train_small.py\n```\n")
    project = understand(tmp_path)
    found = translate_all(project.calls, RealPlaces(project))
    runs = [option(one.command, "--output") for one in found]
    assert runs == ["run/train_small", "run/train_small", "run/b"]
    assert runs[0] in {experiment.run for experiment in project.experiments}
