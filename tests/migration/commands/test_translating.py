"""A translated command does what the old one did, starts as it is printed, and loses nothing that was asked for."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.config.in_force import require_taken
from llmbuilder.config.loading import build_config, merge, parse_overrides
from llmbuilder.formats.nanogpt.configuration import CONVERTED_KEYS, FLAT_KEYS, migrate_dictionary
from llmbuilder.migration.commands import (
    ScriptFacts,
    TranslatedCommand,
    find_calls,
    translate,
    translate_all,
    translate_script,
)
from llmbuilder.tokenizer import Tokenizer
from tests.migration.commands.project_places import CHARS, SAMPLE, TRAIN, ProjectPlaces, facts_of


def translated(text: str, places: ProjectPlaces | None = None, file: str = "run.sh") -> TranslatedCommand:
    (call,) = find_calls(PurePosixPath(file), text)
    return translate(call, places or ProjectPlaces())


def sets(command: str) -> list[str]:
    words = shlex.split(command)
    return [words[at + 1] for at, word in enumerate(words) if word == "--set"]


def option(command: str, name: str) -> str | None:
    words = shlex.split(command.replace("$'\\n'", "NEWLINE"))
    return words[words.index(name) + 1] if name in words else None


CHARS_MODEL = "llmbuilder train model --config configs/train_chars.json --output run/out-chars --overwrite"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("python train.py", "llmbuilder train model --config configs/train-defaults.json --output run/out"),
        ("python train.py config/train_chars.py", CHARS_MODEL),
        ("python train.py ./config/train_chars.py --out_dir=out-b",
         "llmbuilder train model --config configs/train_chars.json --output run/out-b"),
        ("python train.py config/train_chars.py --dataset=tale",
         "llmbuilder train model --config configs/train_chars.json --data data/tale --tokenizer tokenizer/tale "
         "--set model.vocab_size=50304 --output run/out-chars --overwrite"),
        ("python train.py config/train_chars.py --dataset=chars",
         "llmbuilder train model --config configs/train_chars.json --data data/chars --output run/out-chars --overwrite"),
        ("python train.py config/train_chars.py --max_iters=20 --compile=False --decay_lr=False",
         f"{CHARS_MODEL} --set training.max_steps=20 --set system.compile=False --set training.lr_schedule=constant "
         "--set training.warmup_steps=0"),
        ("python train.py --dtype=float16 --always_save_checkpoint=False --backend=gloo",
         "llmbuilder train model --config configs/train-defaults.json --output run/out "
         "--set training.mixed_precision=fp16 --set training.save_best_only=true --set system.distributed_backend=gloo"),
        ("torchrun --standalone --nproc_per_node=8 train.py config/train_chars.py", f"{CHARS_MODEL} --nproc 8"),
        ("python -m torch.distributed.run --nproc-per-node 2 train.py config/train_chars.py", f"{CHARS_MODEL} --nproc 2"),
        ("torchrun --nproc_per_node=8 --nnodes=2 --node_rank=$RANK --master_addr=10.0.0.1 train.py",
         'torchrun --nproc_per_node=8 --nnodes=2 "--node_rank=$RANK" --master_addr=10.0.0.1 -m llmbuilder train model '
         "--config configs/train-defaults.json --output run/out"),
        ("accelerate launch --num_machines 2 --num_processes 4 --machine_rank 1 --main_process_ip 10.0.0.1 train.py",
         "torchrun --nnodes=2 --nproc_per_node=4 --node_rank=1 --master_addr=10.0.0.1 -m llmbuilder train model "
         "--config configs/train-defaults.json --output run/out"),
        ("CUDA_VISIBLE_DEVICES=0,1 nohup python -u train.py",
         "CUDA_VISIBLE_DEVICES=0,1 nohup llmbuilder train model --config configs/train-defaults.json --output run/out"),
        ("python train.py config/train_chars.py --init_from=resume --max_iters=9000 --compile=False",
         "llmbuilder train resume run/out-chars --set training.max_steps=9000 --set system.compile=False"),
        ("python train.py --init_from=out-chars/ckpt.pt --out_dir=out-b",
         "llmbuilder train model --config configs/train-defaults.json --output run/out-b "
         "--set training.init_from=model/out-chars.pt"),
        ("python train.py config/train_chars.py --eval_only=True --init_from=resume",
         "llmbuilder train model --config configs/train_chars.json --output run/out-chars-evaluation --overwrite "
         "--set training.init_from=run/out-chars --set training.eval_only=True"),
        ("python train.py --wandb_log=True --wandb_run_name='a b'",
         "llmbuilder train model --config configs/train-defaults.json --output run/out --set tracking.wandb=True "
         "--set 'tracking.wandb_run_name=a b'"),
        ("for lr in 1e-3 1e-4; do python train.py --learning_rate=$lr --out_dir=out-$lr; done",
         'llmbuilder train model --config configs/train-defaults.json --output "run/out-$lr" '
         '--set "training.learning_rate=$lr"'),
        ("for c in train_chars finetune; do python train.py config/$c.py --init_from=scratch --out_dir=out-$c; done",
         'llmbuilder train model --config "configs/$c.json" --output "run/out-$c" --set training.init_from=scratch'),
        ("for i in 1 2; do python train.py --seed=$i; done",
         'llmbuilder train model --config configs/train-defaults.json --output run/out --overwrite --set "system.seed=$i"'),
        ("python train.py --batch_size=${B:-8} --out_dir=${O:-out-b}",
         'llmbuilder train model --config configs/train-defaults.json --output run/out-b --set '
         '"training.batch_size=${B:-8}"'),
        ("python sample.py",
         "llmbuilder generate text --model run/out --prompt $'\\n' --num-samples 10 --max-new-tokens 500 "
         "--temperature 0.8 --top-k 200 --seed 1337"),
        ("python sample.py --out_dir=out-chars --start='Es war' --num_samples=2 --top_k=None --device=cpu --compile=False",
         "llmbuilder generate text --model run/out-chars --prompt 'Es war' --num-samples 2 --max-new-tokens 500 "
         "--temperature 0.8 --top-k none --seed 1337 --device cpu"),
        ("python sample.py --start=FILE:prompts/data.txt",
         "llmbuilder generate text --model run/out --prompt-file data/data.txt --num-samples 10 --max-new-tokens 500 "
         "--temperature 0.8 --top-k 200 --seed 1337"),
        ("python sample.py --init_from=gpt2-xl --start=-x",
         "llmbuilder generate text --model gpt2-xl --prompt=-x --num-samples 10 --max-new-tokens 500 --temperature 0.8 "
         "--top-k 200 --seed 1337"),
        ("python data/chars/prepare.py", "# data/chars has its token files already"),
        ("python data/tale/prepare.py",
         "llmbuilder data load --input data/tale/input.txt --output data/tale.txt --no-clean --keep-duplicates"),
        ("cd data/web && python prepare.py", "# put the text of web at data/web"),
    ],
)  # fmt: skip
def test_commands_get_the_form_that_does_the_same(old: str, new: str) -> None:
    found = translated(old)
    assert found.command == new
    assert found.left == []


@pytest.mark.parametrize(
    ("old", "left"),
    [
        ("python train.py --rotary=True --n_layer=2", ["--rotary=True"]),
        ("python train.py config/absent.py", ["config/absent.py"]),
        ("python train.py --dtype=int8", ["--dtype=int8"]),
        ("python sample.py --dtype=bfloat16 --compile=True", ["--dtype=bfloat16", "--compile=True"]),
        (
            "deepspeed --num_gpus=4 --hostfile h train.py --deepspeed ds.json",
            ["--hostfile", "h", "--deepspeed ds.json"],
        ),
        ("torchrun --nproc_per_node=gpu train.py", ["--nproc_per_node=gpu"]),
        ("torchrun --nproc_per_node=4 sample.py", ["torchrun --nproc_per_node=4"]),
        ("python train.py --batch_size=many", ["--batch_size=many"]),
        ('python train.py "$@"', ["$@"]),
        ("A=1 nohup python bench.py --x=1", ["A=1", "nohup", "--x=1"]),
        ("python absent.py --x=1", ["--x=1"]),
        ("python train.py --help", ["--help"]),
    ],
)
def test_what_has_no_counterpart_is_listed(old: str, left: list[str]) -> None:
    assert translated(old).left == left


def test_programs_this_package_does_not_stand_for_are_said_to_be_so() -> None:
    absent = translated("python absent.py --x=1")
    assert absent.command == "" and absent.notes == ["absent.py is not in the project"]
    other = translated("python bench.py")
    assert other.command == "" and "of the project's own" in other.notes[0]


@pytest.mark.parametrize(
    ("file", "old"),
    [
        ("data/chars/README.md", "    python prepare.py"),
        ("scripts/run.sh", "cd ~/work/nanoGPT && python train.py"),
        ("scripts/run.sh", "cd .. && python train.py"),
        ("Dockerfile", "RUN python /app/train.py"),
        ("scripts/a.sbatch", "cd $SLURM_SUBMIT_DIR\npython train.py"),
    ],
)
def test_programs_are_found_where_they_were_started(file: str, old: str) -> None:
    assert translated(old, file=file).command


def test_settings_without_effect_there_are_not_set_here() -> None:
    found = translated("python train.py config/finetune.py --init_from=scratch --warmup_iters=10 --min_lr=1e-5")
    assert "warmup" not in found.command and "min_learning_rate" not in found.command
    assert len([note for note in found.notes if "does not decay" in note]) == 2
    found = translated("python train.py config/finetune.py --init_from=scratch --decay_lr=True")
    assert "training.lr_schedule=cosine" in sets(found.command) and "training.warmup_steps=2000" in sets(found.command)
    found = translated("python train.py --wandb_project=x")
    assert "wandb" not in found.command and "would not act" in found.notes[0]


def test_gpt2_is_trained_on_in_its_own_shape() -> None:
    found = translated("python train.py config/finetune.py --n_layer=3")
    assert {"training.init_from=gpt2-xl", "model.num_layers=48", "model.embedding_dim=1600", "model.bias=true"} < set(
        sets(found.command)
    )
    assert any("--n_layer=3" in note for note in found.notes)
    assert any("hf download openai-community/gpt2-xl" in note for note in found.notes)
    measured = translated("python train.py config/eval_gpt2.py").command
    assert option(measured, "--output") == "run/out-evaluation", "the run itself is not written to"


def test_a_resumed_run_keeps_its_shape() -> None:
    found = translated("python train.py --init_from=resume --out_dir=out-chars --n_layer=3 --learning_rate=1e-4")
    assert found.command == "llmbuilder train resume run/out-chars --set training.learning_rate=1e-4"
    assert any("--n_layer=3" in note for note in found.notes)


def test_a_loop_whose_names_differ_is_not_guessed() -> None:
    places = ProjectPlaces(configs={"config/a.py": {}, "config/b.py": {}})
    found = translated("for c in a missing; do python train.py config/$c.py; done", places)
    assert found.left == ["config/$c.py"]


def test_a_loop_over_configurations_writes_where_each_of_them_says() -> None:
    configs = {f"config/train_{name}.py": {"out_dir": f"out-{name}"} for name in ("a", "b")}
    text = "for c in a b; do python train.py config/train_$c.py; done"
    assert option(translated(text, ProjectPlaces(configs=configs)).command, "--output") == "run/out-$c"
    configs["config/train_b.py"] = {"out_dir": "elsewhere"}
    found = translated(text, ProjectPlaces(configs=configs))
    assert found.command == "" and "differ in out_dir" in found.notes[0]
    configs["config/train_b.py"] = {"out_dir": "out-b", "init_from": "resume"}
    assert "differ in init_from" in translated(text, ProjectPlaces(configs=configs)).notes[0]


def test_a_training_may_replace_what_one_before_it_made() -> None:
    text = "# python train.py\npython train.py --a=1\npython train.py --out_dir=out-b\npython train.py"
    calls = find_calls(PurePosixPath("run.sh"), text)
    commands = [found.command for found in translate_all(calls, ProjectPlaces())]
    assert ["--overwrite" in command for command in commands] == [False, False, False, True]


ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--max-iters", "-m", type=int, default=100)
parser.add_argument("--compile", default=False, action=argparse.BooleanOptionalAction)
parser.add_argument("--wandb", dest="wandb_log", action="store_true")
parser.add_argument("--layers", dest="n_layer", type=int, default=4)
parser.add_argument("--top_k", nargs="+", type=int, default=[1, 200])
parser.add_argument("--negative", type=float, default=0.5)
"""


def test_argparse_programs_are_read_by_their_flags() -> None:
    places = ProjectPlaces(scripts={"train.py": facts_of(ARGPARSE, "train")})
    found = translated(
        "python train.py -m 5 --no-compile --wandb --layers=3 --top_k 1 2 3 --negative -1.5 --unknown x", places
    )
    assert sets(found.command) == [
        "training.max_steps=5", "system.compile=False", "tracking.wandb=True", "model.num_layers=3",
    ]  # fmt: skip
    assert found.left == ["--top_k 1 2 3", "--negative -1.5", "--unknown x"]


def test_other_names_for_the_same_are_known() -> None:
    places = ProjectPlaces(scripts={"chargpt.py": ScriptFacts("train"), "train.py": ScriptFacts("train")})
    found = translated("python chargpt.py --model.n_layer=2 --trainer.max_iters=5 --system.work_dir=./out/a", places)
    assert sets(found.command) == ["model.num_layers=2", "training.max_steps=5"]
    assert option(found.command, "--output") == "run/a"
    found = translated("python train.py --dim=64 --n_layers=5 --n_heads=8 --max_seq_len=512 --multiple_of=4", places)
    assert sets(found.command) == [
        "model.embedding_dim=64", "model.num_layers=5", "model.num_heads=8", "model.max_seq_length=512",
    ]  # fmt: skip
    assert found.left == ["--multiple_of=4"]


def test_the_guides_own_commands() -> None:
    places = ProjectPlaces(
        scripts={name: ScriptFacts(role, "argparse") for name, role in
                 {"train.py": "train", "sample.py": "sample", "prepare_data.py": "prepare", "eval.py": "evaluate"}.items()},
        tokenizers={"": "tokenizer/"},
    )  # type: ignore[arg-type]  # fmt: skip
    for old, new in {
        "python train.py --config config.json --data data.txt":
            "llmbuilder train model --config config.json --data data/data.txt --output run/",
        'python sample.py --model model.pt --prompt "Hello" --num_samples 5':
            "llmbuilder generate text --model model/model.pt --tokenizer tokenizer/ --prompt Hello --num-samples 5",
        "python prepare_data.py --input raw/ --output data.txt":
            "llmbuilder data load --input raw/ --output data/data.txt --clean",
    }.items():  # fmt: skip
        assert translated(old, places).command == new


def test_tasks_of_a_cluster_are_not_taken_for_processes_of_one_training() -> None:
    found = translated("srun -n 4 python train.py")
    assert found.command.startswith("srun -n 4 llmbuilder train model") and "torchrun once" in found.notes[0]
    assert translated("srun torchrun --nproc_per_node=4 train.py").notes == []


def test_evaluations_name_model_and_text() -> None:
    places = ProjectPlaces(scripts={"eval.py": ScriptFacts("evaluate", "argparse")})
    found = translated("python eval.py --checkpoint out-chars/ckpt.pt --data data.txt --batch_size 4", places)
    assert found.command == "llmbuilder model evaluate model/out-chars.pt --data data/data.txt --batch-size 4"
    assert "no text" in translated("python eval.py --out_dir out-chars --dataset chars", places).notes[0]
    measured = translated("python sample.py --out_dir=out-a --eval_only=True --eval_dataset=data.txt")
    assert measured.command == "llmbuilder model evaluate run/out-a --data data/data.txt"
    places.datasets = ()
    assert translated("python eval.py --tasks mmlu", places).command == ""


def test_temperature_zero_is_greedy() -> None:
    found = translated("python sample.py --temperature=0.0")
    assert "--greedy" in found.command and "--top-k" not in found.command and "--temperature" not in found.command


SCRIPT = """#!/bin/bash
#SBATCH --gres=gpu:2
set -e
PY="python -u"
for lr in 1e-3 1e-4; do
  CUDA_VISIBLE_DEVICES=0 nohup $PY train.py config/train_chars.py \\
    --learning_rate=$lr --out_dir=out-$lr --rotary=True > log-$lr 2>&1 &
done
wait
(cd data/chars && python prepare.py)
(cd data/tale; python prepare.py) && echo ready
# python train.py --commented=1
python bench.py | tee bench.txt
if python sample.py --out_dir=out-1e-3; then echo fine; fi
"""


def test_a_whole_script_keeps_everything_but_its_commands() -> None:
    new = translate_script(SCRIPT, find_calls(PurePosixPath("run.sh"), SCRIPT), ProjectPlaces())
    lines = new.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "# line 6: left out: --rotary=True" in lines
    assert (
        '  CUDA_VISIBLE_DEVICES=0 nohup llmbuilder train model --config configs/train_chars.json --output "run/out-$lr" '
        '--set "training.learning_rate=$lr" > log-$lr 2>&1 &' in lines
    )
    assert "(cd data/chars && : 'data/chars has its token files already')" in lines
    assert (
        "(cd data/tale; (cd ../.. && llmbuilder data load --input data/tale/input.txt --output data/tale.txt "
        "--no-clean --keep-duplicates)) && echo ready" in lines
    )
    assert "python bench.py | tee bench.txt" in lines and "# python train.py --commented=1" in lines
    assert "#SBATCH --gres=gpu:2" in lines
    subprocess.run(["bash", "-n"], input=new, text=True, check=True)


def test_a_script_that_works_elsewhere_goes_to_the_projects_folder_first() -> None:
    text = "python prepare.py\n"
    new = translate_script(text, find_calls(PurePosixPath("data/tale/get.sh"), text), ProjectPlaces())
    assert new.startswith("(cd ../.. && llmbuilder data load --input data/tale/input.txt")
    text = "cd ~/work/nanoGPT\npython train.py\n"
    new = translate_script(text, find_calls(PurePosixPath("run.sh"), text), ProjectPlaces())
    assert new.splitlines()[0] == "# line 2: ~/work/nanoGPT has to be the new project's folder"
    assert new.splitlines()[2].startswith("llmbuilder train model")


def test_a_translated_script_runs_its_loop(tmp_path: Path) -> None:
    """Each turn of the loop calls the program with its own words, as the shell hands them over."""
    text = "for s in 'a b' c; do\n  python sample.py --start=\"it's $s\" --num_samples=1 --out_dir=out-chars\ndone\n"
    new = translate_script(text, find_calls(PurePosixPath("run.sh"), text), ProjectPlaces())
    program = tmp_path / "llmbuilder"
    program.write_text("#!/bin/bash\nprintf '<%s>' \"$@\"\necho\n")
    program.chmod(0o755)
    out = subprocess.run(
        ["bash", "-c", new], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split("<--prompt>")[1].split(">")[0] for line in out.splitlines()] == ["<it's a b", "<it's c"]


VALUES = st.one_of(
    st.integers(-3, 5000).map(str), st.sampled_from(["True", "False", "None", "0.0", "0.1", "1e-3", "cpu", "a b", "float16",
                                                     "bfloat16", "gloo", "resume", "scratch", "gpt2", "out-b", "chars",
                                                     "tale", "", "'x'", "[1]", "$X", "é", "0x1"]),
)  # fmt: skip
NAMES = st.sampled_from([*TRAIN, *SAMPLE, "decay_lr", "dtype", "rotary", "vocab_size", "n_kv_head", "lr", "dim"])
ARGUMENTS = st.lists(
    st.one_of(st.tuples(NAMES, VALUES).map(lambda pair: f"--{pair[0]}={pair[1]}"),
              st.sampled_from(["config/train_chars.py", "config/finetune.py", "config/eval_gpt2.py", "config/no.py"])),
    max_size=7, unique_by=lambda argument: argument.split("=")[0],
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["train.py", "sample.py", "bench.py", "data/chars/prepare.py", "absent.py"]), ARGUMENTS)
def test_nothing_that_was_asked_for_disappears(script: str, arguments: list[str]) -> None:
    quoted = [f'"{a}"' if "$" in a else shlex.quote(a) for a in arguments]
    found = translated(f"python {script} {' '.join(quoted)}")
    words = " ".join(shlex.split(found.command)) if not found.command.startswith("#") else ""
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        keys = [FLAT_KEYS.get(name, "?"), name.replace("_", "-")]
        if name in CONVERTED_KEYS:
            converted = CONVERTED_KEYS[name](value if name in ("dtype", "backend") else value == "True")
            keys += [converted[0]] if converted is not None else []
        stem = PurePosixPath(name).stem
        reflected = (
            any(key in words for key in keys) or (value.strip("'") and value.strip("'") in words) or stem in words
        )
        assert argument in found.left or any(name in note for note in found.notes) or reflected or name in (
            "start", "out_dir", "init_from", "dataset"), (argument, found)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(ARGUMENTS)
def test_a_training_command_starts_as_it_is_printed(arguments: list[str]) -> None:
    places = ProjectPlaces()
    found = translated(f"python train.py {' '.join(map(shlex.quote, arguments))}", places)
    command = "train resume" if " train resume " in found.command else "train model"
    config = next((a for a in arguments if a in places.configs), None)
    legacy: dict[str, Any] = {**places.config_values(config, "train.py")}
    values = migrate_dictionary(legacy).values
    given_sets = [assignment for assignment in sets(found.command) if "$" not in assignment]
    whole = build_config(merge(values, parse_overrides(given_sets)), "the printed command")
    require_taken(command, given_sets, whole)
    assert CHARS["out_dir"] == "out-chars"


TWO_EXPERIMENTS = """#!/bin/bash
set -e
for name in a b; do
  python train.py config/$name.py --max_iters=4 --out_dir=out-$name
done
python sample.py --out_dir=out-a --num_samples=2 --max_new_tokens=5 --device=cpu > a.txt
python sample.py --out_dir=out-b --start=FILE:prompts/data.txt --num_samples=1 --max_new_tokens=5 > b.txt
python train.py config/a.py --init_from=resume --max_iters=6 --out_dir=out-a
python train.py config/a.py --init_from=resume --eval_only=True --out_dir=out-a
python train.py config/b.py --out_dir=out-c --dataset=chars --init_from=out-b/ckpt.pt --max_iters=2
"""


@pytest.mark.slow
def test_a_translated_script_of_two_experiments_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 2, "eval_interval": 2,
             "eval_iters": 2, "gradient_accumulation_steps": 1, "compile": False, "device": "cpu", "warmup_iters": 1,
             "lr_decay_iters": 4, "vocab_size": 30}  # fmt: skip
    configs = {"config/a.py": {**shape, "dataset": "chars"}, "config/b.py": {**shape, "dataset": "tale"}}
    places = ProjectPlaces(configs=configs, trained=("out-b",), tokenizers={}, vocabularies={})
    places.replaces = lambda out_dir: False  # type: ignore[method-assign]
    places.model = lambda path: "run/out-b" if path == "out-b/ckpt.pt" else None  # type: ignore[method-assign]
    text = "ab cd ef.\n" * 200
    for number, name in enumerate(("chars", "tale")):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        characters = sorted(set(text)) if number == 0 else sorted(set(text), reverse=True)
        ids = np.array([characters.index(c) for c in text], dtype=np.uint16)
        ids[:-200].tofile(folder / "train.bin")
        ids[-200:].tofile(folder / "val.bin")
        Tokenizer.from_characters(characters, end_of_text=None).save_pretrained(folder)
    (tmp_path / "data" / "data.txt").write_text("ab cd\n")
    (tmp_path / "configs").mkdir()
    for file, legacy in configs.items():
        values = merge(migrate_dictionary(legacy).values, {"data": {"path": f"data/{legacy['dataset']}"}})
        build_config(values, file).save(tmp_path / "configs" / f"{PurePosixPath(file).stem}.json")
    new = translate_script(TWO_EXPERIMENTS, find_calls(PurePosixPath("run.sh"), TWO_EXPERIMENTS), places)
    program = tmp_path / "bin" / "llmbuilder"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m llmbuilder "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", new], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{new}\n{done.stderr[-3000:]}"
    steps = {name: json.loads((tmp_path / "run" / name / "metrics.jsonl").read_text().splitlines()[-1])["step"]
             for name in ("out-a", "out-b", "out-c")}  # fmt: skip
    assert steps == {"out-a": 6, "out-b": 4, "out-c": 2}
    assert (tmp_path / "a.txt").read_text().startswith("--- sample 1 ---\n\n")
    assert (tmp_path / "b.txt").read_text().startswith("ab cd\n")
    assert (tmp_path / "run" / "out-a-evaluation").is_dir()
