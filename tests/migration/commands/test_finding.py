"""Commands are found where people write them, and read as a shell would read them."""

from __future__ import annotations

import json
import subprocess
from pathlib import PurePosixPath

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmbuilder.migration.commands import Call, Loop, find_calls, translate
from llmbuilder.migration.commands.words import Expansion, Word, joined, quoted
from tests.migration.commands.named_places import NamedPlaces
from tests.migration.commands.project_places import ProjectPlaces


def calls(text: str, file: str = "run.sh") -> list[Call]:
    return find_calls(PurePosixPath(file), text)


def said(call: Call) -> str:
    return " ".join([call.script, *call.arguments])


def only(text: str, file: str = "run.sh") -> Call:
    (call,) = calls(text, file)
    return call


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python train.py config/a.py \\\n  --lr=1 \\\n  --note='a; b & c'", "train.py config/a.py --lr=1 --note=a; b & c"),
        ('PY="python3 -u"\n$PY train.py', "train.py"),
        ("OUT=out-a\npython sample.py --out_dir=${OUT}", "sample.py --out_dir=out-a"),
        ("python train.py --lr=${LR:-3e-4}", "train.py --lr=${LR:-3e-4}"),
        ("A='--x=1 --y=2'; python train.py $A \"$A\"", "train.py --x=1 --y=2 --x=1 --y=2"),
        ("ARGS=(--x=1 'a b')\nARGS+=(--z)\npython train.py \"${ARGS[@]}\"", "train.py --x=1 a b --z"),
        ("cmd=(python train.py --x=1)\n\"${cmd[@]}\" --y=2", "train.py --x=1 --y=2"),
        ("cd data/x && python prepare.py; cd -; python train.py", "data/x/prepare.py\ntrain.py"),
        ("(cd data/x; python prepare.py)\npython train.py", "data/x/prepare.py\ntrain.py"),
        ("git clone https://example.org/me/nano.git && cd nano && python train.py", "train.py"),
        ('cd "$(dirname "$0")/.."\npython train.py', "train.py"),
        ('HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"\npython "$HERE/../train.py" --out=$HERE/x',
         "train.py --out=tools/x"),
        ("N=$((2*8))\npython train.py --n=$N", "train.py --n=16"),
        ("F=config/a.py\npython train.py --name=$(basename $F) ${F%.py} ${F##*/}", "train.py --name=a.py config/a a.py"),
        ("python train.py --start=$'\\n' > log.txt 2>&1 &", "train.py --start=\n"),
        ("python train.py --a=1 > log.txt --b=2", "train.py --a=1 --b=2"),
        ("cat x | python train.py - | tee log", "train.py -"),
        ("if [ -n x ]; then python a.py; elif y; then python b.py; else python c.py; fi", "a.py\nb.py\nc.py"),
        ("case $1 in a) python a.py;; *) python b.py;; esac", "a.py\nb.py"),
        ("bash -c 'python train.py --a=1 && echo'", "train.py --a=1"),
        ("python -m torch.distributed.run --nproc_per_node=2 train.py --a=1", "train.py --a=1"),
        ("python -m torch.distributed.launch --nproc_per_node 2 --use_env train.py --a=1", "train.py --a=1"),
        ("python -m tools.train --a=1; python -m train", "tools/train.py --a=1\ntrain.py"),
        ("python -m pip install x; python -m venv y; python -c 'print(1)'; echo python train.py; pip install x.py", ""),
        ("accelerate launch --config_file c.yaml train.py --a=1", "train.py --a=1"),
        ("deepspeed --num_gpus 4 train.py --deepspeed ds.json", "train.py --deepspeed ds.json"),
        ("uv run train.py; uv run --with x python train.py; poetry run python train.py", "train.py\ntrain.py\ntrain.py"),
        ("conda run -n env python train.py --a=1", "train.py --a=1"),
        ("sudo nice -n 10 taskset -c 0-3 env A=1 python3.10 -O train.py", "train.py"),
        ("./train.py --a=1\n/usr/bin/python3 train.py", "train.py --a=1\ntrain.py"),
        ("python train.py <<EOF\npython no.py\nEOF", "train.py"),
        ("sbatch <<EOF\n#!/bin/bash\npython train.py --a=1\nEOF", "train.py --a=1"),
        ("cat > job.sh <<'EOF'\npython train.py --a=1\nEOF", "train.py --a=1"),
        ("srun bash -c 'torchrun --nnodes 2 python train.py'", "train.py"),
        ("f() { local x=$1; shift; python train.py --x=$x \"$@\"; }\nf 1 --y=2\nf 1 --y=3", "train.py --x=$x $@"),
        ("echo 'python no.py'\n# a remark\npython train.py # python no.py", "train.py"),
    ],
)  # fmt: skip
def test_shell_is_read_as_a_shell_reads_it(text: str, expected: str) -> None:
    assert "\n".join(said(call) for call in calls(text, "tools/run.sh") if not call.is_example) == expected


def test_what_stands_around_a_command_is_kept() -> None:
    call = only("CUDA_VISIBLE_DEVICES=0,1 nohup srun -n 1 python -u train.py --a=1 > log &")
    assert call.environment == (("CUDA_VISIBLE_DEVICES", "0,1"),)
    assert call.prefix == ("nohup", "srun", "-n", "1")
    assert call.old == "CUDA_VISIBLE_DEVICES=0,1 nohup srun -n 1 python -u train.py --a=1"
    assert only("conda run -n env python train.py").dropped == ("conda", "run", "-n", "env")


@pytest.mark.parametrize(
    "form", ["--nproc_per_node=8", "--nproc-per-node=8", "--nproc_per_node 8", "--nproc-per-node 8"]
)
def test_processes_are_read_in_every_form(form: str) -> None:
    launcher = only(f"torchrun --standalone {form} train.py config/a.py").launcher
    assert (launcher.name, launcher.processes, launcher.is_multi_node) == ("torchrun", "8", False)


def test_several_machines_are_read() -> None:
    launcher = only(
        "torchrun --nproc_per_node=8 --nnodes=2 --node_rank=$RANK --master_addr=10.0.0.1 --master_port=1234 train.py"
    ).launcher
    assert launcher.is_multi_node
    assert (launcher.nodes, launcher.rank, launcher.master_address, launcher.master_port) == (
        "2", "$RANK", "10.0.0.1", "1234")  # fmt: skip
    assert launcher.arguments[0] == "--nproc_per_node=8"
    launcher = only("accelerate launch --num_processes 4 --mixed_precision bf16 train.py").launcher
    assert (launcher.processes, launcher.left) == ("4", ("--mixed_precision", "bf16"))


def test_loops_are_known_with_their_values() -> None:
    call = only(
        "for lr in 1e-3 1e-4; do for i in {1..3}; do\n name=r-$i\n python train.py --lr=$lr --out_dir=$name; done; done"
    )
    assert call.loops == (Loop("lr", ("1e-3", "1e-4")), Loop("i", ("1", "2", "3")))
    assert said(call) == "train.py --lr=$lr --out_dir=r-$i"
    assert [(e.name, call.arguments[1][e.start : e.end]) for e in call.arguments[1].expansions] == [("i", "$i")]


def test_functions_are_read_once_with_the_arguments_of_their_calls() -> None:
    call = only("run() { python train.py $1 --out_dir=$2; }\nrun config/a.py out-a\nrun config/b.py out-b")
    assert call.loops == (Loop("1", ("config/a.py", "config/b.py")), Loop("2", ("out-a", "out-b")))
    assert said(only("f() { python train.py $1; }\nf config/a.py")) == "train.py config/a.py"


def test_a_variable_that_may_have_changed_stays_a_variable() -> None:
    assert said(only("X=1\nif y; then X=2; fi\npython train.py --x=$X")) == "train.py --x=$X"
    assert said(only("i=0\nwhile true; do i=$((i+1)); python train.py --x=$i; done")) == "train.py --x=$i"
    assert said(only('if [ -z "$X" ]; then X=5; fi\npython train.py --x=$X')) == "train.py --x=${X:-5}"
    assert said(only('c=(--a)\nif y; then c+=(--b); fi\npython train.py "${c[@]}"')) == "train.py --a ${c[@]:1}"


def test_spans_are_where_the_old_command_stands() -> None:
    text = "é=1\nfor x in 1 2; do\n  A=1 python train.py --ü=$x \\\n    --b=2 > log-$x &\ndone\n"
    call = only(text)
    assert call.span is not None
    assert text[slice(*call.span)] == call.old == "A=1 python train.py --ü=$x \\\n    --b=2"
    assert call.line == 3


def test_comments_show_examples() -> None:
    found = calls(
        "#!/bin/bash\n#SBATCH --gres=gpu:8\n# python train.py --a=1 \\\n#   --b=2\n# see python's manual\npython x.py"
    )
    assert [(said(c), c.is_example, c.line) for c in found] == [("train.py --a=1 --b=2", True, 3), ("x.py", False, 6)]


MARKDOWN = """# Title

Run `python prepare.py` first, see `train.py`.

```sh
cd data
python prepare.py \\
  --x=1
```

* a list

  ```console
  $ python train.py --a=1 \\
  >   --b=2
  python no.py is what it prints
  (venv) me@host:~$ python sample.py
  ```

> ```bash
> python quoted.py
> ```

    $ python indented.py --c=3

```python
import train
!python cell.py
```

```json
{"run": "python no.py"}
```

```
python train.py <config_file> --d=1
```
"""


def test_markdown() -> None:
    found = [(c.line, c.script, *c.arguments) for c in calls(MARKDOWN, "README.md")]
    assert [row[0] for row in found] == [3, 7, 14, 17, 21, 24, 28, 36]
    assert [row[1] for row in found] == [
        "prepare.py", "data/prepare.py", "data/train.py", "data/sample.py", "data/quoted.py", "data/indented.py",
        "data/cell.py", "data/train.py",
    ]  # fmt: skip
    assert found[2][2:] == ("--a=1", "--b=2")
    assert found[7][2:] == ("<config_file>", "--d=1")
    assert [c.line for c in calls(MARKDOWN, "README.md") if c.is_example] == [3]


def test_every_span_in_a_document_holds_what_is_called_old() -> None:
    for call in calls(MARKDOWN, "README.md"):
        assert call.span is not None and MARKDOWN[slice(*call.span)] == call.old


def test_makefile() -> None:
    text = (
        "PY ?= python3\nCONFIG = config/a.py\n# python no.py\ntrain:\n\t@echo start\n"
        "\t-@$(PY) train.py $(CONFIG) \\\n\t  --x=1\n\tcd data && $(PY) prepare.py\n"
        "\tfor i in 1 2; do $(PY) train.py --i=$$i --to=$@; done\n"
    )
    found = calls(text, "Makefile")
    assert [said(c) for c in found if not c.is_example] == [
        "train.py config/a.py --x=1", "data/prepare.py", "train.py --i=$i --to=$@",
    ]  # fmt: skip
    assert found[1].old == "$(PY) train.py $(CONFIG) \\\n\t  --x=1"
    assert found[3].loops == (Loop("i", ("1", "2")),)


def test_notebook() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["Text\n", "```sh\n", "python shown.py\n", "```"]},
        {"cell_type": "code", "source": ["import os\n", "!python train.py \\\n", "  --lr={lr}\n", "# python later.py"]},
        {"cell_type": "code", "source": "%%bash\ncd data\npython prepare.py"},
        {"cell_type": "code", "source": ["%cd work\n", "!cd x && python a.py\n", "out = !python b.py"]},
    ]
    text = json.dumps({"cells": cells}, indent=1)
    found = calls(text, "a.ipynb")
    assert [said(c) for c in found] == [
        "shown.py", "train.py --lr=${lr}", "later.py", "data/prepare.py", "work/x/a.py", "work/b.py",
    ]  # fmt: skip
    lines = text.splitlines()
    assert all(c.script.rpartition("/")[2] in lines[c.line - 1] for c in found if c.script != "data/prepare.py")
    assert [c.is_example for c in found] == [True, False, True, False, False, False]


def test_dockerfile() -> None:
    text = (
        "FROM python\nENV OUT=out-a\nWORKDIR /app\nCOPY . .\nRUN pip install x && \\\n    python prepare.py --a=1\n"
        'ENTRYPOINT ["python", "-u"]\nCMD ["train.py", "--b=c d"]\n'
    )
    assert [(c.line, said(c)) for c in calls(text, "docker/Dockerfile")] == [
        (6, "prepare.py --a=1"), (8, "train.py --b=c d"),
    ]  # fmt: skip


def test_workflow() -> None:
    text = """# python none.py --a=1
env:
  OUT: out-ci
jobs:
  test:
    steps:
      - run: python plain.py --out_dir=$OUT
      - name: several
        working-directory: data
        run: |
          python prepare.py
          python more.py \\
            --lr=${{ matrix.lr }}
services:
  app:
    command: ["python", "list.py", "--x=a b"]
  other:
    command: >
      python folded.py
      --y=1
"""
    found = calls(text, ".github/workflows/ci.yml")
    assert [(c.line, said(c)) for c in found] == [
        (1, "none.py --a=1"), (7, "plain.py --out_dir=out-ci"), (11, "data/prepare.py"),
        (12, "data/more.py --lr=${{ matrix.lr }}"), (16, "list.py --x=a b"), (19, "folded.py --y=1"),
    ]  # fmt: skip
    assert all(text[slice(*c.span)] == c.old for c in found if c.span is not None)
    assert found[3].span is not None


def test_windows_batch() -> None:
    text = "@echo off\r\nset OUT=out-a\r\nREM python no.py --x=1\r\npython src\\train.py ^\r\n  --out_dir=%OUT%\r\n"
    assert [(said(c), c.is_example) for c in calls(text, "run.bat")] == [
        ("no.py --x=1", True), ("src/train.py --out_dir=out-a", False),
    ]  # fmt: skip


def test_python_programs_show_examples() -> None:
    text = '''"""
To run on a single GPU, example:
$ python train.py --batch_size=32 \\\\
    --compile=False

Usage: python sample.py --x=1
python is a language
"""
# torchrun --standalone --nproc_per_node=4 train.py
text = "python no.py"  # python no.py
'''
    found = calls(text, "train.py")
    assert [said(c) for c in found] == ["train.py --batch_size=32 --compile=False", "sample.py --x=1", "train.py"]
    assert all(c.is_example for c in found)


def test_files_of_other_kinds_have_none() -> None:
    assert calls("python train.py", "data.csv") == []
    assert said(only("#!/usr/bin/env bash\npython train.py", "bin/go")) == "train.py"


NAMES = st.sampled_from(
    ["run.sh", "README.md", "Makefile", "a.ipynb", "Dockerfile", "ci.yml", "run.bat", "t.py", "a.txt"]
)
PARTS = st.sampled_from(
    ["python train.py", "python train.py config/$c.py", "torchrun --nproc_per_node=$N train.py", "--out_dir=out-$i",
     "python sample.py --start=$X", "for c in train_chars finetune; do", "$X", "${", "}", "'", '"', "`", "$(", ")", "(", "for x in", "do", "done", "if", "then", "fi", "\n",
     "\t", "\\\n", ";", "&&", "|", "<<EOF\n", "EOF\n", ">", "A=", "A+=(", "```", "~~~sh\n", "    ", "> ", "- run: |\n", "!",
     "%%bash\n", "RUN ", "CMD [", "]", "{", "$$", "$(X)", "é", "\ud800", "\0", "\r", "case", "esac", "f() {", "cd ..", "#",
     "seq 1 9", "{1..9}", "${X%.py}", "$((1/0))", '{"cells": [', "train:"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES, st.one_of(st.text(max_size=200), st.lists(PARTS, max_size=40).map(" ".join)))
@example("run.sh", "A=x\n" + "A=$A$A\n" * 60 + "python train.py $A")
@example("run.sh", "(" * 5000 + "python train.py" + ")" * 5000)
@example("run.sh", 'python train.py "' + "$(" * 500)
@example("ci.yml", "a: &a [*a, {run: python train.py}]")
@example("ci.yml", "[" * 3000)
@example("a.ipynb", "[" * 100_000)
@example("t.py", "(" * 3000)
@example("run.sh", "for i in {1..999999999}; do python train.py $i; done")
@example("README.md", "`" * 20_000 + "python train.py")
def test_any_text_gives_calls_that_translate_and_no_exception(name: str, text: str) -> None:
    for call in calls(text, name):
        for places in (ProjectPlaces(), NamedPlaces()):
            assert translate(call, places).command or translate(call, places).notes
        assert call.line >= 1
        assert call.span is None or text[slice(*call.span)].replace("\0", " ") == call.old


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30).filter(lambda text: ("\0" not in text and text.isprintable()) or "\n" in text))
@example("\n")
@example('it\'s $HOME `x` \\ "q"')
def test_a_quoted_word_comes_back_from_a_shell(text: str) -> None:
    text = text.replace("\0", "").encode("utf-8", "replace").decode()
    word = joined([Word(text), Word("$X", [Expansion(0, 2, "X")]), Word(text)])
    script = f"X='a  b'\nprintf '%s\\0' {quoted(text)} {quoted(word)}"
    out = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode()
    assert out == f"{text}\0{text}a  b{text}\0"
