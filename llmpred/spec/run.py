"""RunSpec: what one fine-tune, or one evaluation of an untouched base, is.

Every field but `execution` and the display names says what the run *is* and goes into its keys
through `llmpred.bases.resolve`. `execution` says how it is carried out and never does.
A field added later must default to `None`, which canonical JSON leaves out, so no key changes.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
Weight = Annotated[float, Field(gt=0.0)]


class Frozen(BaseModel):
    """Base of all spec models: immutable, unknown keys refused, only finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- task ------------------------------------------------------------------------------------


class ClusterSpec(Frozen):
    """K-means clusters of prompts and counts, as they are settled from training rows.

    Attributes:
        center, scale: mean and standard deviation of each variable: the counts, then
            `PROMPT_FEATURES`.
        centroids: of the clusters, in standard deviations, by ascending counts.
        limit: counts above it took no part; None kept all.
    """

    center: tuple[float, ...]
    scale: tuple[float, ...]
    centroids: tuple[tuple[float, ...], ...]
    limit: float | None = None


class TargetSpec(Frozen):
    """What a model is taught of how long another one thinks (task `complexity`).

    Attributes:
        counts: what is counted in a `response`: `units` of reasoning, `wait`s, `tokens` or
            `sentences`; rows that bring `counts` are taken at their word.
        kind: `counts` and `log1p` are regressions; `bin_index` is one on the number of the bin;
            `equal_width`, `quantile` and `edges` are classes of counts, `clusters` classes of
            prompts and counts.
        bins: how many, for `equal_width` and `quantile`; None is 10. Bins that fall together are
            one.
        edges: of the bins, ascending; closed on the right, the first one on both sides, and the
            outer bins take what lies beyond them. For `edges` and `bin_index`; else settled from
            the training rows.
        k: how many clusters; `auto` chooses; None is 10, or 8 without outliers.
        outliers: `remove` leaves the longest thoughts out of the clusters and of training.
        tags: put tags such as [WHY] or [LONG] in front of each prompt.
        censored: what becomes of thoughts that were cut off, whose counts are too low.
        clusters: settled from the training rows.
        scale: mean and standard deviation of what a regression is taught, settled likewise.
    """

    counts: Literal["units", "wait", "tokens", "sentences"] = "units"
    kind: Literal[
        "counts", "log1p", "bin_index", "equal_width", "quantile", "edges", "clusters"
    ] = "quantile"
    bins: Annotated[int, Field(ge=2, le=200)] | None = None
    edges: tuple[float, ...] | None = None
    k: Literal["auto"] | Annotated[int, Field(ge=2, le=200)] | None = None
    outliers: Literal["keep", "remove"] | None = None
    tags: bool | None = None
    censored: Literal["drop", "keep"] = "drop"
    clusters: ClusterSpec | None = None
    scale: tuple[float, Annotated[float, Field(gt=0.0)]] | None = None

    @property
    def is_regression(self) -> bool:
        """Whether a number is taught rather than a class."""
        return self.kind in ("counts", "log1p", "bin_index")

    @property
    def described(self) -> str:
        """What is taught, for people."""
        names = {
            "counts": "the number",
            "log1p": "log(1 + number)",
            "bin_index": "the number of the bin",
            "equal_width": f"{self.bins or 10} bins of equal width",
            "quantile": f"{self.bins or 10} bins of equal size",
            "edges": "bins of given edges",
            "clusters": "clusters of prompts and counts",
        }
        return f"{names[self.kind]} of {self.counts}{', tags in front' if self.tags else ''}"

    @model_validator(mode="after")
    def _own(self) -> TargetSpec:
        if self.kind in ("edges", "bin_index") and self.edges is None:
            raise ValueError(f"target.kind `{self.kind}` needs `edges`")
        edges = self.edges or (0.0, 1.0, 2.0)
        if len(edges) < 3 or any(a >= b for a, b in itertools.pairwise(edges)):
            raise ValueError("`edges` must be three or more ascending numbers")
        takes = {
            "bins": ("equal_width", "quantile"),
            "edges": ("edges", "bin_index", "equal_width", "quantile"),
            "k": ("clusters",),
            "outliers": ("clusters",),
            "clusters": ("clusters",),
            "scale": ("counts", "log1p", "bin_index"),
        }
        for name, kinds in takes.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"`{name}` does not belong to target.kind `{self.kind}`")
        return self


class ValuesSpec(Frozen):
    """The scale of the numbers that a model is taught (task `numeric`), settled from training rows.

    Attributes:
        linear: up to about this size values are told apart by their difference, beyond it by their
            ratio: the scale is asinh(value / linear).
        log: mean and standard deviation of the training values on that scale.
        raw: mean and standard deviation of the values themselves.
    """

    linear: Annotated[float, Field(gt=0.0)]
    log: tuple[float, Annotated[float, Field(gt=0.0)]]
    raw: tuple[float, Annotated[float, Field(gt=0.0)]]


class TaskSpec(Frozen):
    """What is asked of the model.

    Attributes:
        name: a registered task: sentiment, qa, summarization, multiple_choice, …
        language: of the data: decides default prompts, label words and how words are counted.
        prompt: template with the task's fields in braces; None takes the task's own for the
            language of the data. The text of a target follows the prompt directly.
        labels: label in the data -> word the model sees; None settles it from the data.
        chat_template: `auto` wraps the prompt in the tokenizer's chat template where it has one.
        max_length: tokens a training or evaluation sequence may have, prompt and target together.
        truncation: which end of the long input field loses tokens, or `error` to refuse.
        target: what is taught of how long a model thinks (task complexity).
        values: the scale of the numbers that are taught (task numeric).
    """

    name: str
    language: Literal["auto", "en", "zh"] = "auto"
    prompt: str | None = None
    labels: dict[str, str] | None = None
    chat_template: Literal["auto", "off"] = "off"
    max_length: Annotated[int, Field(ge=8)] = 512
    truncation: Literal["end", "start", "error"] = "end"
    target: TargetSpec | None = None
    values: ValuesSpec | None = None


# --- data ------------------------------------------------------------------------------------


class SourceSpec(Frozen):
    """Where rows come from and how they are read.

    Attributes:
        source: a file, a folder saved by `datasets`, a hub id, or `synthetic:NAME`.
        format: how to read it; `auto` goes by suffix and content.
        columns: field of the task -> column of the source; fields of the same name map themselves.
        encoding: of text files; `auto` notices UTF-8 (with or without BOM), UTF-16 BOM, GB18030.
        on_bad_row: stop at the first rows that do not hold, or leave them out and count them.
        split: of a hub dataset or a saved DatasetDict.
        subset: of a hub dataset (its configuration name).
        revision: of a hub dataset.
        options: parameters of a synthetic source.
    """

    source: str
    format: Literal[
        "auto",
        "jsonl",
        "json",
        "csv",
        "tsv",
        "parquet",
        "squad",
        "messages",
        "alpaca",
        "saved",
        "hub",
        "synthetic",
    ] = "auto"
    columns: dict[str, str] = Field(default_factory=dict)
    encoding: Literal["auto", "utf-8", "gb18030"] = "auto"
    on_bad_row: Literal["error", "skip"] = "error"
    split: str | None = None
    subset: str | None = None
    revision: str | None = None
    options: dict[str, Any] | None = None


class Subsample(Frozen):
    """Keep `n` rows (or a share), drawn without replacement."""

    n: Positive | None = None
    share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Subsample:
        if (self.n is None) == (self.share is None):
            raise ValueError("subsample takes exactly one of `n` and `share`")
        return self


class ShareOf(Frozen):
    """A share of the rows that a step changes or adds."""

    share: Share


class TruncateWords(Frozen):
    """Cut the inputs to `words` words (characters for Chinese)."""

    words: Positive


class MixPart(SourceSpec):
    """One further source in a mixture.

    Attributes:
        weight: against the main source's 1.
    """

    weight: Annotated[float, Field(gt=0.0)] = 1.0


class Balance(Frozen):
    """Make all labels as frequent: drop rows of the common ones, or repeat rows of the rare."""

    by: Literal["undersample", "oversample"]


class Mix(Frozen):
    """Mix the rows with those of other sources by weight: `n`, or all that the weights allow."""

    sources: tuple[MixPart, ...] = Field(min_length=1)
    n: Positive | None = None


class RecipeStep(Frozen):
    """One change to a dataset; exactly one key."""

    subsample: Subsample | None = None
    label_noise: ShareOf | None = None
    duplicate: ShareOf | None = None
    near_duplicate: ShareOf | None = None
    truncate: TruncateWords | None = None
    shuffle_answers: ShareOf | None = None
    balance: Balance | None = None
    mix: Mix | None = None

    @model_validator(mode="after")
    def _one(self) -> RecipeStep:
        # By value: a step read back from a record has all its keys, the others null.
        if sum(value is not None for _, value in self) != 1:
            raise ValueError("a recipe step has exactly one key")
        return self


class DatasetSpec(SourceSpec):
    """The training data: a source and what is done to it.

    Attributes:
        name: for people and for grouping; not part of any key.
        recipe: steps applied in order, each seeded by `recipe_seed` and its place.
        recipe_seed: seed of the recipe; the run's own seed does not touch the data.
        limit: at most this many training rows, drawn after the recipe.
        validation: share of the rows held out of training, for selection and early signs.
    """

    name: str | None = None
    recipe: tuple[RecipeStep, ...] = ()
    recipe_seed: int = 0
    limit: Positive | None = None
    validation: OpenShare | None = None


# --- base and method -------------------------------------------------------------------------


class BaseSpec(Frozen):
    """The base model.

    Attributes:
        name: a known name, a local folder or a hub id.
        revision: branch, tag or commit on the hub.
        quantization: of the frozen weights; `nf4` is QLoRA's, with double quantisation.
    """

    name: str
    revision: str | None = None
    quantization: Literal["none", "nf4", "int8"] = "none"


class AdapterSpec(Frozen):
    """What is trained inside the base.

    Attributes:
        kind: `lora`; `full` trains every weight; `none` trains nothing inside the base: zero-shot
            with a language-model head, a frozen base with a trained head otherwise.
        r: LoRA rank.
        alpha: LoRA numerator; the update is scaled by alpha / r (Hu et al., 2021).
        dropout: on the adapter's input, while training.
        target_modules: names of the linear layers; `attention` and `all_linear` fit any base.
        use_rslora: scale by alpha / sqrt(r) instead (Kalajdzievski, 2023).
        last_layers: with `full`, train only so many of the last layers, and the head.
    """

    kind: Literal["lora", "full", "none"] = "lora"
    r: Positive = 8
    alpha: Annotated[float, Field(gt=0.0)] = 16.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: Literal["attention", "all_linear"] | tuple[str, ...] = "attention"
    use_rslora: bool | None = None
    last_layers: Positive | None = None


class MethodSpec(Frozen):
    """What is trained on top of the base, and how its output is read.

    Attributes:
        head: `causal_lm` generates text, `label_scoring` compares the log-probability of the
            candidate answers, `classifier` is a layer on the pooled states; `boosted` is LightGBM
            on the base's mean states and features of the prompt; `numeric` reads each number of a
            text as one token `<NUM>` and its value, and says where a number is due and its value
            (task numeric); `auto` is the task's first, or `classifier` on an encoder.
        adapter: what is trained inside the base.
        loss: None is the usual one, cross-entropy of the target's tokens or of the class;
            `candidates` is cross-entropy among the candidates' scores, so that training sharpens
            the very comparison that label scoring makes (label scoring only). Of task complexity:
            `mse` is the usual one of regressions, `pinball` teaches their quantiles (Koenker &
            Bassett, 1978), `ordinal` is the cumulative link model of classes (McCullagh, 1980).
            Of head `numeric`, beside the token's: `cauchy`, the usual one, teaches location and
            scale on a logarithmic scale (with the form `pointer` a mixture of such), `log1p` and
            `mse` the squared error on that scale and of the values themselves, `pinball` their
            quantiles. Of a `causal_lm` that writes digits: `number_token` adds the number-token
            loss (Zausinger et al., 2025).
        length_normalization: divide a candidate's log-probability by its length in tokens
            (label scoring only).
        head_form: of a classifier or a `numeric` head: None is linear; `mlp` is Linear(512), GELU,
            Dropout(0.2) and a linear layer; `pointer` (`numeric` with `cauchy`) weighs copies of
            the numbers in the text, shifted ones and a new one (after Merity et al., 2017).
        class_weights: how much an example's loss counts, by its label: `balanced` is examples /
            (labels * examples of the label), as scikit-learn has it; or a weight a label. For
            classifiers and label scoring.
        name: for people and for comparisons; not part of any key.
    """

    head: Literal["auto", "causal_lm", "label_scoring", "classifier", "boosted", "numeric"] = "auto"
    adapter: AdapterSpec = Field(default_factory=AdapterSpec)
    loss: (
        Literal["candidates", "mse", "ordinal", "pinball", "cauchy", "log1p", "number_token"] | None
    ) = None
    head_form: Literal["mlp", "pointer"] | None = None
    length_normalization: bool | None = None
    class_weights: Literal["balanced"] | dict[str, Weight] | None = None
    name: str | None = None

    @property
    def reads_numbers(self) -> bool:
        """Whether numbers are a token of their own, which the base is loaded with."""
        return self.head == "numeric"

    @property
    def has_head(self) -> bool:
        """Whether a head of its own is trained, in place of the language-model head."""
        return self.head in ("classifier", "boosted")


# --- optimisation ----------------------------------------------------------------------------


class Stage(Frozen):
    """One of several trainings in a row, each with a schedule of its own.

    Attributes:
        trains: `head` leaves all else as it is; `all` is what the method trains.
        lr: peak learning rate.
        epochs: passes over the training data; exactly one of `epochs` and `max_steps`.
        max_steps: optimizer steps.
    """

    trains: Literal["head", "all"] = "all"
    lr: Annotated[float, Field(gt=0.0, le=10.0)]
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    max_steps: Positive | None = None

    @model_validator(mode="after")
    def _length(self) -> Stage:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("a stage takes exactly one of `epochs` and `max_steps`")
        return self


class OptimSpec(Frozen):
    """How it is trained.

    With `head: boosted` lr is the shrinkage of a tree and `max_steps` the number of trees.

    Attributes:
        name: optimizer; the 8-bit ones need a CUDA device.
        lr: peak learning rate.
        weight_decay: decoupled (AdamW), on matrices only.
        betas: of Adam.
        schedule: of the learning rate after warm-up.
        warmup: share of the steps if below 1, number of steps otherwise.
        epochs: passes over the training data; exactly one of `epochs`, `max_steps` and `stages`.
        max_steps: optimizer steps.
        stages: several trainings in a row; the lr of each replaces this one's.
        batch_size: examples an optimizer step, over all micro-batches and workers.
        grad_clip: largest global gradient norm; None does not clip.
        precision: of the computation; `auto` is bf16 for quantised bases and those above a billion
            parameters, fp32 otherwise.
    """

    name: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    lr: Annotated[float, Field(gt=0.0, le=10.0)] = 2e-4
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    betas: tuple[OpenShare, OpenShare] = (0.9, 0.999)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0.0)] = 0.0
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    max_steps: Positive | None = None
    stages: tuple[Stage, ...] | None = Field(default=None, min_length=1)
    batch_size: Positive = 16
    grad_clip: Annotated[float, Field(gt=0.0)] | None = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _length(self) -> OptimSpec:
        if [self.epochs, self.max_steps, self.stages].count(None) != 2:
            raise ValueError("optim takes exactly one of `epochs`, `max_steps` and `stages`")
        return self

    @property
    def how_long(self) -> str:
        """How long it is trained, for people."""
        parts: tuple[OptimSpec | Stage, ...] = self.stages or (self,)
        return ", then ".join(
            f"{p.max_steps} steps" if p.max_steps else f"{p.epochs:g} epochs" for p in parts
        )

    @property
    def top_lr(self) -> float:
        """The highest learning rate of any stage."""
        return max(s.lr for s in self.stages) if self.stages else self.lr


# --- evaluation ------------------------------------------------------------------------------


class EvaluationSpec(Frozen):
    """What the run is scored on.

    Attributes:
        data: the evaluation rows; None needs `holdout`.
        holdout: share of the training source set aside before the recipe; equal rows stay on one
            side.
        limit: at most this many rows, drawn with a fixed seed.
        select: score the last weights, or those of the checkpoint with the lowest validation loss.
        metrics: further metrics to compute, by registered name.
        max_new_tokens: of generated answers; None takes the task's own.
        calibration: `contextual` divides the probability of each label by what the model gives it
            for inputs without content (Zhao et al., 2021; label scoring only).
        adapter_off: score with the LoRA adapter switched off, and the head that was trained with
            it left on: what the head is worth without it (classifiers only).
    """

    data: SourceSpec | None = None
    holdout: OpenShare | None = None
    limit: Positive | None = None
    select: Literal["last", "best_on_validation"] = "last"
    metrics: tuple[str, ...] | None = None
    max_new_tokens: Positive | None = None
    calibration: Literal["contextual"] | None = None
    adapter_off: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> EvaluationSpec:
        if (self.data is None) == (self.holdout is None):
            raise ValueError("evaluation takes exactly one of `data` and `holdout`")
        return self


# --- execution: never part of a key ----------------------------------------------------------


class CheckpointSpec(Frozen):
    """Checkpoints while training, for resuming.

    Attributes:
        every: optimizer steps from one to the next; None makes one only when a run is stopped.
        keep: how many of the newest stay.
    """

    every: Positive | None = None
    keep: Positive = 2


class DistributedSpec(Frozen):
    """How several processes carry out one run together.

    Attributes:
        workers: processes, each on a GPU of its own where there are GPUs.
        strategy: `ddp` has the whole model in every process; `zero2` splits gradients and the
            optimizer's state among them, `zero3` the weights too (DeepSpeed; Rajbhandari et al.,
            2020), and so does `fsdp2` (PyTorch; Zhao et al., 2023).
        offload: what is kept in the CPU's memory instead of the GPU's: nothing, the optimizer's
            state (`zero2`, `zero3`), or the weights as well (`all`: `zero3`, `fsdp2`).
    """

    workers: Positive
    strategy: Literal["ddp", "zero2", "zero3", "fsdp2"] = "ddp"
    offload: Literal["none", "optimizer", "all"] = "none"


class ExecutionSpec(Frozen):
    """How a run is carried out. Two runs that differ here alone are the same run.

    Attributes:
        engine: which engine executes it.
        micro_batch: examples a forward pass; halved on out-of-memory, down to 1.
        eval_batch: examples a forward pass in evaluation.
        activation_checkpointing: recompute activations to save memory.
        checkpoints: how often the training state is kept for resuming.
        resume: `auto` continues from the newest sound checkpoint, `none` starts over; anything
            else is the folder of a checkpoint of this very run to continue from.
        keep: which adapters stay in the storage: none, the best of a sweep, or all.
        device: where to run.
        distributed: several processes for one run; None for one process.
    """

    engine: Literal["reference"] = "reference"
    micro_batch: Positive = 8
    eval_batch: Positive = 32
    activation_checkpointing: bool = False
    checkpoints: CheckpointSpec = Field(default_factory=CheckpointSpec)
    resume: Annotated[str, Field(min_length=1)] = "auto"
    keep: Literal["none", "best", "all"] = "none"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    distributed: DistributedSpec | None = None


class RunSpec(Frozen):
    """One run: task, data, base, method, optimisation, evaluation, seed; and how to execute it."""

    task: TaskSpec
    dataset: DatasetSpec
    base: BaseSpec
    method: MethodSpec
    optim: OptimSpec
    evaluation: EvaluationSpec
    seed: int = 0
    execution: ExecutionSpec = Field(default_factory=ExecutionSpec)

    @property
    def trains(self) -> bool:
        """Whether anything is trained: a language-model head without an adapter is zero-shot."""
        return self.method.adapter.kind != "none" or self.method.has_head
