"""The configuration: one `Config` of documented sections.

Loading checks types and names only. Ranges, and rules that span fields, are `validation`'s, because a broken legacy
configuration has to load before it can be examined and fixed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llmbuilder.config.languages import LanguageCode
from llmbuilder.config.model_schema import ModelConfig as ModelConfig
from llmbuilder.config.ranges import (
    Amount,
    AutoCount,
    AutoRate,
    Certainty,
    Count,
    CountOrOff,
    Few,
    NotNegative,
    Number,
    Part,
    Positive,
    Range,
    Seconds,
    Seed,
    Share,
    ShareOrOff,
    Threads,
)
from llmbuilder.config.section import Section, places_of, set_whole, whole_of, with_places
from llmbuilder.files import write_text


def is_auto(value: object) -> bool:
    """Whether a setting is left to be chosen."""
    return value == "auto"


class TrainingConfig(Section):
    """How a model is trained."""

    batch_size: AutoCount = Field(
        default=16, description="Sequences per forward pass; 'auto' follows from the number of training tokens."
    )
    gradient_accumulation_steps: Count = Field(
        default=1, description="Forward passes per optimizer step; several processes share batch_size times this."
    )
    learning_rate: AutoRate = Field(
        default=3e-4, description="Peak learning rate of AdamW; 'auto' chooses every rate from the model's width."
    )
    embedding_learning_rate: Part | None = Field(
        default=None, description="AdamW's peak rate for the token embedding. Default: learning_rate."
    )
    head_learning_rate: Part | None = Field(
        default=None, description="AdamW's peak rate for an untied output projection. Default: learning_rate."
    )
    vector_learning_rate: Part | None = Field(
        default=None, description="AdamW's peak rate for norms and biases. Default: learning_rate."
    )
    min_learning_rate: Part | None = Field(
        default=None, description="Learning rate at the end of the decay. Default: a tenth of learning_rate."
    )
    lr_schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="Shape after the warm-up; 'linear' stays flat for half the run, then falls."
    )
    lr_decay_steps: Count | None = Field(default=None, description="Step at which the decay ends. Default: the last.")
    warmup_steps: Amount = Field(default=1000, description="Steps of linear warm-up.")
    num_epochs: Count = Field(default=10, description="Passes over the data; ignored when max_steps is set.")
    max_steps: Count | None = Field(default=None, description="Optimizer steps; takes precedence over num_epochs.")
    time_budget_seconds: Positive | None = Field(
        default=None, description="Wall-clock limit: the schedule ends when it does."
    )
    time_reserve_seconds: NotNegative = Field(default=0.0, description="Part of the time budget for what follows.")
    optimizer: Literal["auto", "adamw", "muon"] = Field(
        default="adamw",
        description="'muon' updates hidden matrices with Muon and everything else with AdamW; 'auto' takes it "
        "unless the model is sharded.",
    )
    muon_learning_rate: Part | None = Field(
        default=None, description="Peak learning rate of Muon. Default: 0.02, or chosen with learning_rate 'auto'."
    )
    weight_decay: NotNegative = Field(default=0.01, description="Decoupled weight decay, on matrices only.")
    beta1: Part = Field(default=0.9, description="AdamW's first-moment decay.")
    beta2: Part = Field(default=0.95, description="AdamW's second-moment decay.")
    max_grad_norm: NotNegative = Field(default=1.0, description="Clip gradients to this norm; 0 turns clipping off.")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        default="auto",
        description="Number format of matrix products; 'auto' is measured, and one that is not fast means float32.",
    )
    eval_every: Amount = Field(default=500, description="Steps between evaluations; 0 for never.")
    eval_batches: Count | None = Field(
        default=None, description="Batches per evaluation, spread evenly. Default: the whole validation part."
    )
    sample_every: Amount | None = Field(
        default=None, description="Steps between samples of text in the log; 0 for none. Default: at each evaluation."
    )
    eval_only: bool = Field(default=False, description="Evaluate once and stop.")
    save_every: Amount = Field(default=1000, description="Steps between checkpoints; 0 for the end only.")
    save_best_only: bool = Field(
        default=False,
        description="Write a checkpoint only when validation improved (nanoGPT's always_save_checkpoint=False).",
    )
    keep_checkpoints: Count = Field(default=2, description="Newest checkpoints kept; the best model is kept besides.")
    log_every: Count = Field(default=100, description="Steps between lines in metrics.jsonl.")
    loss_spike_policy: Literal["stop", "skip", "rewind"] = Field(
        default="stop",
        description="What to do about a loss that is not finite or far above the recent ones: stop with a report, "
        "skip the batch, or go back to the last checkpoint and leave out the batches since.",
    )
    loss_spike_threshold: NotNegative = Field(
        default=10.0, description="Standard deviations above the recent mean that make a spike; 0 for never."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute each layer in the backward pass: much less memory, a third more time."
    )
    dataloader_num_workers: Few = Field(
        default=1, description="Threads that fetch batches ahead of the training step; 0 fetches in between."
    )
    init_from: str = Field(
        default="scratch",
        description="'scratch', 'resume' (continue the run in output_dir), or a model file to start from.",
    )
    output_dir: str | None = Field(default=None, description="Run directory when the caller names none.")


class FinetuningConfig(Section):
    """Which weights learn when training begins from a model (training.init_from), and towards what."""

    method: Literal["full", "lora", "dora", "qlora"] = Field(
        default="full",
        description="'full': all weights. 'lora': adapters beside frozen matrices; 'dora' gives their rows lengths of "
        "their own, too; with 'qlora' the matrices are held in four bits (extra 'qlora').",
    )
    rank: Count = Field(default=16, description="Rank of an adapter.")
    alpha: Positive | None = Field(
        default=None, description="What an adapter is multiplied by, times its rank. Default: twice the rank."
    )
    dropout: Part = Field(default=0.0, description="Dropout before an adapter during training, 0 to 1.")
    layers: list[str] = Field(
        default_factory=list,
        description="Ends of the names of the matrices that get an adapter, such as q_proj. Default: all.",
    )
    embeddings: bool = Field(
        default=False,
        description="Let embedding and output projection learn beside adapters; set where a model gets new tokens.",
    )
    objective: Literal["likelihood", "dpo"] = Field(
        default="likelihood",
        description="'likelihood': text, or the answers of conversations. 'dpo' (direct preference optimization): of "
        "pairs of answers, the chosen rather than the rejected one.",
    )
    dpo_beta: Positive = Field(
        default=0.1, description="How near 'dpo' stays to the model that it begins from; more is nearer."
    )


class SystemConfig(Section):
    """The machine and the run's reproducibility."""

    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N, mps or xpu; an absent device falls back.")
    seed: Seed = Field(default=42, description="Seed of initialisation, shuffling, dropout and sampling.")
    deterministic: bool = Field(default=False, description="Insist on deterministic kernels, at some cost in speed.")
    compile: bool = Field(default=False, description="Compile the model with torch.compile.")
    num_threads: Threads | None = Field(default=None, description="CPU threads. Default: PyTorch's choice.")
    distributed_backend: Literal["auto", "nccl", "gloo"] = Field(
        default="auto", description="Communication library of multi-process runs (nanoGPT's backend)."
    )
    distributed_strategy: Literal["auto", "ddp", "fsdp"] = Field(
        default="auto",
        description="'ddp' keeps the whole model in every process, 'fsdp' cuts it over them; 'auto' cuts it when it "
        "would not fit.",
    )
    distributed_timeout_seconds: Seconds = Field(
        default=600.0, description="How long a process waits for the others before it gives up."
    )


class DataConfig(Section):
    """Documents and the dataset made from them."""

    path: str | None = Field(default=None, description="Text file, document folder or token folder to train on.")
    text_column: str | None = Field(
        default=None,
        description="Column of tables that has the text. Default: text, content or body, else the longest.",
    )
    ocr: str | None = Field(
        default="eng",
        description="Languages of scanned pages ('eng+deu'), read where tesseract is installed; null leaves them.",
    )
    file_seconds: Positive = Field(default=120.0, description="Time that reading one file may take.")
    file_memory_mb: Count = Field(default=4096, description="Memory that reading one file may take.")
    file_mb: Count = Field(default=1024, description="Largest file, archive member or line to read.")
    clean_text: bool = Field(default=True, description="Apply the cleaning rules when documents are read.")
    cleaning_rules: list[str] | None = Field(default=None, description="The cleaning rules to apply. Default: all.")
    redact: list[str] = Field(
        default_factory=list, description="Personal data to replace: secret, email, iban, card, ssn, ip, phone, or all."
    )
    filter: Literal["none", "notes", "books", "code", "web"] = Field(
        default="none", description="Preset of limits that documents must keep."
    )
    filter_limits: dict[str, tuple[Number | None, Number | None]] = Field(
        default_factory=dict, description="Limits (least, most) of quality signals besides the preset's."
    )
    filter_without: list[str] = Field(default_factory=list, description="Rules of the preset to leave out.")
    languages: list[LanguageCode] = Field(default_factory=list, description="Languages to keep (ISO 639); [] is all.")
    min_language_score: Certainty = Field(default=0.65, description="How certain the language must be, 0 to 1.")
    classifier: str | None = Field(
        default=None, description="Quality model: a fastText file, or a function of a text to import (module:name)."
    )
    classifier_label: str | None = Field(default=None, description="Label of the fastText model that means quality.")
    min_score: Number = Field(default=0.5, description="Documents that the classifier scores lower are dropped.")
    evaluation_files: list[str] = Field(
        default_factory=list, description="Evaluation texts: documents that share 13-grams with them are dropped."
    )
    remove_duplicates: bool = Field(default=True, description="Drop documents whose normalised text was seen before.")
    near_duplicates: Annotated[float, Range(least=0.1, most=1)] | Literal["auto"] | None = Field(
        default="auto",
        description="Drop documents whose word n-grams overlap by this much (Jaccard similarity) with another's. "
        "'auto' is 0.8 for `data prepare` and off for everything else.",
    )
    near_duplicate_ngram: Count = Field(default=5, description="Words of an n-gram when near-duplicates are sought.")
    near_duplicate_permutations: Count = Field(default=64, description="Hashes of a MinHash signature at most.")
    semantic_duplicates: Share | None = Field(
        default=None,
        description="`data prepare` drops documents whose embeddings are this much alike (cosine), such as 0.95.",
    )
    semantic_model: str | None = Field(default=None, description="Folder of the model2vec model that embeds documents.")
    repeated_lines: Annotated[int, Range(least=2)] | None = Field(
        default=None, description="`data prepare` removes lines that are in this many documents or more. Default: none."
    )
    mixture: dict[str, NotNegative] = Field(
        default_factory=dict,
        description="`data prepare`: how often the documents of an INPUT are in the tokens (1.5: half of them twice).",
    )
    tokenize: bool = Field(default=True, description="`data prepare` writes token shards, too.")
    train_split: Share = Field(default=0.9, description="Share of the documents used for training; the rest validates.")
    stride: Count | None = Field(default=None, description="Tokens between starts of windows (null: their length).")
    documents_apart: bool | Literal["auto"] = Field(
        default="auto",
        description="Documents in a window do not see each other. 'auto': so when a model is adapted to text.",
    )


class TokenizerConfig(Section):
    """The tokenizer to load or to train."""

    path: str | None = Field(default=None, description="Folder of an existing tokenizer. Default: train one.")
    algorithm: Literal["bpe", "unigram", "wordpiece", "char"] = Field(
        default="bpe", description="Kind of tokenizer to train; 'bpe' is byte-level."
    )
    vocab_size: Count | None = Field(default=None, description="Tokens to learn. Default: the model's vocab_size.")
    min_frequency: Count = Field(default=2, description="Occurrences a pair needs before it becomes a token.")
    pretokenizer: Literal["gpt2", "llama3", "qwen2"] = Field(
        default="gpt2",
        description="How 'bpe' cuts words: digits in runs ('gpt2'), up to three ('llama3') or one by one ('qwen2').",
    )
    special_tokens: list[str] = Field(
        default_factory=list, description="Tokens to reserve behind all others, such as '<|im_start|>'."
    )

    @property
    def training_options(self) -> dict[str, Any]:
        """What `train_tokenizer` is told besides the size."""
        return self.model_dump(exclude={"path", "vocab_size"})


class GenerationConfig(Section):
    """How text is sampled from a model."""

    max_new_tokens: Count = Field(default=100, description="Tokens to generate at most.")
    do_sample: bool = Field(default=True, description="Sample; false always takes the most likely token.")
    temperature: NotNegative = Field(
        default=0.8,
        description="Divides the logits before sampling; lower is more predictable, 0 greedy as do_sample=false.",
    )
    top_k: CountOrOff = Field(default=50, description="Sample among the k likeliest tokens only; null, none or 0: all.")
    top_p: ShareOrOff = Field(
        default=None, description="Sample among the likeliest tokens that together reach this mass."
    )
    min_p: ShareOrOff = Field(default=None, description="Drop tokens less likely than this share of the likeliest one.")
    repetition_penalty: Positive = Field(default=1.0, description="Above 1 makes tokens of the text less likely.")
    num_samples: Count = Field(default=1, description="Continuations per prompt.")
    stop: list[str] = Field(default_factory=list, description="Generation ends before any of these strings.")
    stop_at_eos: bool = Field(default=True, description="Generation ends at the end-of-text token.")
    seed: Seed | None = Field(default=None, description="Seed of the sampling; None draws a new one each time.")


class TrackingConfig(Section):
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = Field(
        default=False, description="Write metrics for TensorBoard into the run directory (extra 'tensorboard')."
    )
    trackio: bool = Field(default=False, description="Send metrics to trackio (extra 'trackio').")
    trackio_project: str = Field(default="llmbuilder", description="trackio project.")
    wandb: bool = Field(default=False, description="Send metrics to Weights & Biases (extra 'wandb').")
    wandb_project: str = Field(default="llmbuilder", description="Weights & Biases project.")
    wandb_run_name: str | None = Field(default=None, description="Weights & Biases run name.")


class Config(BaseModel):
    """A whole configuration.

    Its sections: `model`, `training`, `finetuning`, `system`, `data`, `tokenizer`, `generation`, `tracking`.
    """

    __slots__ = ("_places",)
    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())

    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    finetuning: FinetuningConfig = Field(default_factory=FinetuningConfig)
    system: SystemConfig = Field(default_factory=SystemConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    generation: GenerationConfig = Field(default_factory=GenerationConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    legacy: dict[str, Any] | None = Field(
        default=None, description="Keys of a migrated configuration that have no counterpart here, kept as they were."
    )

    def model_post_init(self, _context: Any) -> None:
        self._adopt_sections()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._adopt_sections()

    def _adopt_sections(self) -> None:
        for name, section in self.sections().items():
            if whole_config(section) is None:
                set_whole(section, self)
            elif whole_config(section) is not self:  # it belongs to another config: this one gets its own copy
                copy = section.model_copy()
                set_whole(copy, self)
                self.__dict__[name] = copy

    def sections(self) -> dict[str, Section]:
        """Return the sections by name."""
        return {name: value for name, value in self.__dict__.items() if isinstance(value, Section)}

    def copy_of(self) -> Config:
        """Return an independent copy, which knows as well what was set explicitly."""
        copy = with_places(Config.model_validate(self.to_dict()), places_of(self))
        for name, section in copy.sections().items():
            section.model_fields_set.intersection_update(getattr(self, name).model_fields_set)
        return copy

    def __copy__(self) -> Config:
        return self.copy_of()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Config:
        return self.copy_of()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Config.model_validate, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, with `legacy` only when there is something in it."""
        values = self.model_dump(mode="json")
        if not values["legacy"]:
            del values["legacy"]
        return values

    def save(self, path: str | Path) -> None:
        """Write the configuration as JSON, or as YAML when the name ends in .yaml or .yml; atomically."""
        path = Path(path)
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))
        else:
            write_text(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")


def whole_config(section: Section) -> Config | None:
    """Return the `Config` a section belongs to, or None for one that stands alone."""
    return whole_of(section)  # type: ignore[no-any-return]


def section_of(config: Config | Section | None, kind: type[Section]) -> Any:
    """Return the section of type `kind` that goes with `config`, which may be a whole, any of its sections, or None."""
    if isinstance(config, kind):
        return config
    whole = config if isinstance(config, Config) else whole_config(config) if config is not None else None
    sections = (whole or Config()).sections().values()
    return next(section for section in sections if type(section) is kind)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
